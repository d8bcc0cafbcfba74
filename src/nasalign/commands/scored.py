"""A model whose answer is scored by two tokens, as servers do that score texts.

These are the tokens with which an answer begins as the prompt asks for it. nasalign adds up further
spellings of a word (" Yes", "yes"); how much that is, is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.adapters.scaling import PlattScaling
from nasalign.commands.pairs import PairPrompt
from nasalign.errors import ModelError, PromptError
from nasalign.evaluation.ranking import log_odds
from nasalign.inference.forward import answer_logits
from nasalign.inference.scoring import score_prompts
from nasalign.prompts.builder import BinaryPrompt
from nasalign.reporting.card import ScoreFacts

_EXACT = 1e-4  # of log odds in float32
_ROUNDED = 0.25  # of log odds in a half precision
_AS_IT_IS = PlattScaling(1.0, 0.0)


@dataclass(frozen=True)
class ScoredModel:
    """A model whose two answer tokens are scored.

    Attributes:
        model: with the aligned rows.
        pair: its prompt.
        scaling: the calibration of the aligned model, or None.
        examples: number of examples that the calibration was fitted on.
    """

    model: PreTrainedModel
    pair: PairPrompt
    scaling: PlattScaling | None
    examples: int = 0

    @torch.no_grad()
    def facts(self) -> ScoreFacts:
        """Return what is computed, and how far it is from what nasalign computes.

        Raises:
            PromptError: the negative word has no token of its own.
        """
        yes, no = self.tokens()
        two = self.odds()
        scores = score_prompts(self.model, self.pair.prompts, record=False)
        every = torch.from_numpy(log_odds(scores.p_positive, scores.p_negative))
        scaling, words = self.scale, self.pair.session.builder().words
        far = (scaling.probability(two) - scaling.probability(every)).abs().max()
        return ScoreFacts(
            columns=self.pair.columns,
            words=(words.positive, words.negative),
            tokens=(yes, no),
            slope=scaling.slope,
            offset=scaling.offset,
            calibrated=self.examples if self.scaling else 0,
            difference=float(far),
            pairs=len(self.pair.prompts),
        )

    @torch.no_grad()
    def odds(self) -> Tensor:
        """Return the log odds of the two tokens after each prompt that is tried, [N] float64."""
        yes, no = self.tokens()
        logits = answer_logits(self.model, self.pair.prompts, prefix=0)
        return (logits[:, yes] - logits[:, no]).double().cpu()

    @property
    def scale(self) -> PlattScaling:
        """The calibration, or the scaling that changes nothing."""
        return self.scaling or _AS_IT_IS

    def check(self, found: Tensor, right: Tensor, what: str) -> None:
        """Refuse log odds [N] of ``what`` that are not those of the model.

        Raises:
            ModelError: they differ by more than rounding does.
        """
        far = float(((found - right).abs() / (1 + right.abs())).max())
        if not far <= self.tolerance:
            raise ModelError(
                f"{what} gives other log odds than the model itself, by up to {far:.2g} of their "
                "size; export it with --format merged."
            )

    @property
    def tolerance(self) -> float:
        """By how much log odds may differ for reasons of rounding, each relative to 1 + itself."""
        return _EXACT if self.model.dtype == torch.float32 else _ROUNDED

    def tokens(self) -> tuple[int, int]:
        """Return the ids of the tokens of the positive and of the negative word.

        Raises:
            PromptError: they differ from prompt to prompt, or the negative word has none.
        """
        found = {(one.answers.target, one.answers.other_target) for one in self.pair.prompts}
        yes, no = next(iter(found))
        if len(found) > 1 or no is None:
            raise PromptError(
                "The answers do not begin with one token each, the same after every prompt, so two "
                "tokens cannot score them; export the model with --format merged."
            )
        return yes, no


def padded(prompts: Sequence[BinaryPrompt], pad: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask of N prompts, [N, T] each."""
    longest = max(len(one.token_ids) for one in prompts)
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for place, one in enumerate(prompts):
        size = len(one.token_ids)
        where = slice(longest - size, None) if left else slice(size)
        ids[place, where], mask[place, where] = torch.tensor(one.token_ids), 1
    return ids, mask


def with_padding(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[BinaryPrompt]) -> None:
    """Give a tokenizer a token for padding, as servers ask in batches; changes the tokenizer.

    Raises:
        ModelError: prompts end with it, so that the last token would be taken for padding.
    """
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None or any(
        one.token_ids[-1] == tokenizer.pad_token_id for one in prompts
    ):
        raise ModelError(
            "The tokenizer has no token for padding that no prompt ends with, which servers need; "
            "export the model with --format merged."
        )
