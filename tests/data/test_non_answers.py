"""Answers that say nothing are told from answers with such words in them; judged by hand."""

import pytest

from nasalign.data.non_answers import declines

NONE = """
I don't know.
I do not know the answer to that
I don\u2019t know who wrote it
I am not certain
I'm not sure about that.
I'm unsure.
I am unable to determine the answer from the context.
Unable to determine
It is impossible to tell
Impossible to say without more context.
It is not possible to determine this.
The passage does not contain information about his wife.
The context does not state this.
The text does not mention her father.
It does not state this
It doesn't say.
The question cannot be answered.
It cannot be determined from the context.
This can't be determined
I cannot answer that question
I can't provide an answer.
I could not find that in the passage
The answer is not provided.
His birthplace is not explicitly mentioned in the passage.
The year isn't specified.
The name of the director is not given
The date of the event has not been disclosed.
It is unknown.
The author remains unknown
Unknown
Unknown.
The answer is unclear from the passage.
It is not clear who did so
The cause is not known.
There is no information on that
There is not enough information to answer.
I do not have enough information
The paragraph provides no details on the matter.
There is no way to know.
Insufficient information
More information is needed to answer.
I would need more context to answer
I have no idea
No idea.
No information
No information is provided in the text
Not sure, but perhaps it was his brother
Not mentioned
Not specified in the text
Not enough information
N/A
As an AI language model, I have no personal knowledge of that.
I'm sorry, but I cannot help with that.
Could you please provide more details?
Nobody knows for certain
The information is not available in the passage.
The context lacks information on this point
The passage didn't give his age.
Unanswerable
The question is unanswerable
Hard to say
I'm afraid I don't have that information.
Based on the context, it is not possible to answer the question.
The given passage does not specify which of them sits first.
We cannot determine the exact date from the information given
Information about this is not available
The answer to this question is unknown
The context provided does not contain any information about the spouse of the king.
There is not enough context to answer the question.
It isn't stated who the father was.
The question does not provide enough information to determine the answer.
I do not have personal knowledge about this.
The name of the school is not stated in the article
I wasn't able to find any information on that.
no clear answer can be given
Cannot be determined.
I'm not familiar with this film
I cannot confirm that
There isn't any information about the winner in the text.
The text says nothing about this.
Not enough data
I don't have access to that data
This information is not provided
The specific year is not mentioned here
It's unclear which team is meant
It\u2019s not known.
I am unaware of the answer
Without further information, the answer cannot be determined
We don't know.
The passage makes no mention of his mother
The paragraphs do not say where she was born.
Cannot say
The context is insufficient to answer
The exact number is uncertain.
It depends on information that is not given.
The answer cannot be found in the passage.
I have no information about it.
There is no mention of a sister.
The problem does not give the height
We are not told.
I can't tell from this passage
""".strip().splitlines()

SOME = """
The unknown soldier
The Tomb of the Unknown Soldier
Unknown Pleasures
The Unsure Start centre
Sure Start
It is not Paris but Rome
No. 7
No Country for Old Men
No
No, it is the Danube
None
Dr. No
Knoxville
Nobody knows him better than Ann
Not Without My Daughter
He was not known for his singing but for his poems
He did not answer the call
Columbus did not find India
The drink does not contain sugar
He does not have a middle name
The phone is not available in Canada
Information Society
The Data Protection Act
The Answer
Clear Lake
Provided by the BBC
The Enough Project
The Impossible
He could not swim
She was unable to have children
He was unable to provide for his family
An Uncertain Place
It was not named after Washington but after Franklin
The sailors could not be rescued
The Not Mentioned Few, a band
The team was not included in the league before 1990
None of them
I know it is Paris
42, for certain
Not a single one
A lack of rain
Sorry Not Sorry
The Notebook
Nowhere Boy
The disease cannot be cured
It is called The Unknown
William Shakespeare
The President is unable to veto it
He could not be found guilty
the Sea of Uncertainty
He did not provide any support to the king
It has no moons
There is no capital city
No one
No Doubt
Not applicable to minors
She does not eat meat
The treaty was not signed by France
He was not elected
The game is not available on PC
The film was not directed by Lucas but by Kershner
Uncle Tom's Cabin
Known Unknowns
The Context
Please Please Me
Mr. Nobody
It is found in Chad
The United Nations did not recognise it
Nobody's Fool
She could not walk
It was never built
""".strip().splitlines()


def test_the_table_is_large_enough() -> None:
    assert (len(NONE) >= 40, len(SOME) >= 25) == (True, True)


@pytest.mark.parametrize("prediction", ["", "  ", *NONE])
def test_it_gives_no_answer(prediction: str) -> None:
    assert declines(prediction)


@pytest.mark.parametrize("prediction", SOME)
def test_it_is_an_answer(prediction: str) -> None:
    assert not declines(prediction)
