"""Free answers that give none: the model says that it does not know (Non-Det, Appendix G)."""

import re

_SAID = (  # what can be said of an answer that is missing, as participles
    r"(?:provided|given|mentioned|specified|stated|disclosed|indicated|included|listed|identified"
    r"|documented|determined|described|revealed|discussed|addressed|answered|found|named)"
)
_FIND = (  # what cannot be done with a question, as verbs and as participles
    r"(?:be\s+)?(?:determined?|answer(?:ed)?(?!\s+(?:for|to)\b)|tell|told|identif(?:y|ied)"
    r"|ascertain(?:ed)?|establish(?:ed)?|verif(?:y|ied)|confirm(?:ed)?|infer(?:red)?"
    r"|conclude[d]?|deduce[d]?|known?|say|said|"
    r"provide[d]?(?=\s+(?:an?|the|any|that|this|you|more|further|specific|information|accurate)\b|"
    r"\W*$)|specif(?:y|ied)|give\s+(?:you\s+)?(?:an?|the|any)\s+(?:\w+\s+)?answer)\b"
)
_TEXT = (
    r"(?:context|passage|text|question|article|paragraphs?|documents?|information|prompt|sentence"
    r"|statement|story|excerpt|source|problem)"
)
_FACTS = (
    r"(?:information|data|details?|context|knowledge|answers?|mention|indication|records?|clues?)"
)
_NOT = r"(?:\s+not|n['\u2019]t)"
_IS = r"(?:\b(?:is|are|was|were)|['\u2019](?:s|re|m))"
_OPEN = (  # the answer is ...
    r"(?:unknown|unclear|uncertain|unspecified|undetermined|undisclosed|indeterminate|inconclusive"
    r"|unanswerable|undeterminable|unavailable)"
)

_NO_ANSWER = re.compile(
    "|".join(
        [
            # I do not know; we cannot say; I'm not certain; I have no idea
            r"\b(?:I|we)\s+(?:really\s+|just\s+|honestly\s+)?(?:do|did|would|could|can)"
            rf"(?:{_NOT}|not)\s+(?:\w+ly\s+)?(?:know|recall|remember|find|think\s+I\s+(?:know|can)"
            rf"|have\s+(?:\w+\s+){{0,4}}(?:{_FACTS}|access|idea)|see\s+any|{_FIND})",
            r"\b(?:I|we)(?:\s+am|\s+are|\s+was|\s+were|['\u2019](?:m|re))(?:\s+\w+)?"
            rf"(?:{_NOT}\s+(?:\w+ly\s+)?|\s+un)(?:sure|certain|aware|familiar|confident|able|told)\b",
            rf"\b(?:I|we)(?:\s+have|['\u2019]ve)\s+(?:no|never)\s+(?:{_FACTS}|idea|heard|way)\b",
            r"\b(?:I|we)\s+(?:would\s+)?(?:need|require)\s+(?:more|further|additional)\b",
            r"\bas\s+an?\s+AI\b|\bbeyond\s+my\s+knowledge\b|\b(?:I\W?m|I\s+am)\s+sorry,?\s+(?:but\s)?",
            r"\banswers?\s+(?:cannot|can\s+not|can['\u2019]t)\s+be\s+\w+|\bno\s+(?:\w+\s+)?answer\s+can\b",
            r"\bno(?:body|\s+one)\s+knows\s+(?:for|who|what|when|where|why|how|exactly|the\s+answer)",
            # it cannot be determined; unable to determine; impossible to tell
            rf"\b(?:cannot|can\s+not|can['\u2019]t|could{_NOT}|unable\s+to|not\s+able\s+to"
            rf"|(?:not\s+possible|impossible|hard|difficult)\s+to)\s+(?:\w+ly\s+)?{_FIND}",
            # the passage does not say; it does not state this; it does not contain information
            rf"\b(?:{_TEXT}|it|this|that|there)\s+(?:itself\s+)?(?:do|does|did){_NOT}\s+(?:\w+ly\s+)?"
            r"(?:state|specify|mention|indicate|say|tell|reveal|disclose|clarify|determine)\b",
            rf"\b{_TEXT}\s+(?:do|does|did){_NOT}\s+(?:\w+ly\s+)?(?:provide|give|contain|include|have"
            r"|answer|describe|identify|name|list|discuss|address)\b",
            rf"\b(?:do|does|did){_NOT}\s+(?:\w+ly\s+)?(?:provide|give|contain|include|have|offer)\s+"
            rf"(?:\w+\s+){{0,3}}{_FACTS}\b",
            # the answer is not given; his name is not explicitly mentioned; it is unknown
            rf"(?:{_IS}{_NOT}|\b(?:has|have){_NOT}\s+been)\s+(?:\w+ly\s+)?{_SAID}"
            rf"(?=\W*$|[.,;]|\s+(?:here|anywhere|so|who|what|when|where|which|how|why)\b"
            rf"|\s+(?:in|by|from|within)\s+(?:the|this|that|any|your)\s+(?:\w+\s+)?{_TEXT})",
            rf"{_IS}{_NOT}\s+(?:\w+ly\s+)?(?:known(?!\s+(?:for|as|to\s+be|by)\b)"
            rf"|clear|certain|available(?=\W*$|[.,;]|\s+(?:in|from)\s+the\s+{_TEXT})"
            r"|possible\s+to\s+(?:determine|say|tell|know|answer))\b",
            rf"(?:{_IS}|\b(?:remains?|still|currently|left))\s+(?:\w+ly\s+)?{_OPEN}\b"
            r"(?!\s+(?:to|in|outside)\b)",
            rf"\bnot\s+{_SAID}\s+(?:in|by)\s+the\s+(?:\w+\s+)?{_TEXT}\b",
            # there is no information; not enough context; more details are needed
            rf"\b(?:there\s+(?:is|are|was|were)|there['\u2019]s|has|have|gives?|provides?|contains?)"
            rf"\s+no\s+(?:\w+\s+)?(?:{_FACTS}|way\s+(?:to|of)\s+(?:know|tell|determin|say|answer))",
            rf"\b(?:not\s+(?:have\s+)?|n['\u2019]t\s+(?:have\s+)?|without\s+)(?:enough|sufficient)\s+"
            rf"(?:\w+\s+)?{_FACTS}\b|\binsufficient\s+(?:\w+\s+)?{_FACTS}\b",
            rf"\b(?:is|are){_NOT}\s+any\s+(?:\w+\s+)?{_FACTS}\b|\bmakes?\s+no\s+mention\b",
            rf"\b{_TEXT}\s+(?:itself\s+)?says?\s+nothing\b",
            rf"\b(?:lacks?|lacking|lack\s+of)\s+(?:the\s+|any\s+)?(?:\w+\s+)?{_FACTS}\b",
            rf"\bmore\s+{_FACTS}\s+(?:is|are|would\s+be)\s+(?:needed|required|necessary)\b",
            r"\b(?:please|could\s+you|can\s+you)\s+(?:provide|clarify|specify|give\s+me)\b",
            # the whole answer
            rf"^\W*(?:the\s+answer\s*(?:is|:)\s*)?(?:{_OPEN}|n/?a|not\s+(?:\w+ly\s+)?(?:sure|certain"
            rf"|known|applicable|available|enough|{_SAID})|no\s+(?:idea|clue|answer|{_FACTS})|unsure"
            rf"|(?:an?\s+)?unanswerable\s+question|none\s+(?:given|{_SAID}))\W*$",
            rf"^\W*not\s+(?:sure|certain)\b|^\W*unsure\b(?!\s+[A-Z])|^\W*no\s+{_FACTS}\s+(?:is|are|on|about)\b",
        ]
    ),
    re.IGNORECASE,
)


def declines(prediction: str) -> bool:
    """Return whether a free answer says that there is none, or is empty.

    A title or name with such a word ("The unknown soldier") is an answer. Whoever knows that the
    answer is right asks that first: "Not sure, but I say Paris" is right.
    """
    return not prediction.strip() or _NO_ANSWER.search(prediction) is not None
