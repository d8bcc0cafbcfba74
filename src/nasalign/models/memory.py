"""Running out of memory: telling it from other errors, and its error message."""

import errno
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import PreTrainedModel

from nasalign.errors import OutOfMemoryError

_SIGNS = (  # beside those that accelerate knows
    "CUDA error: out of memory",  # outside PyTorch's allocator, such as pinned memory
    "HIP error: out of memory",
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN and their like
    "DefaultCPUAllocator: not enough memory",  # Windows
    "Cannot allocate memory",  # the system, such as for a mapped file
    "Invalid buffer size",  # MPS, of a tensor larger than it can ever hold
    "std::bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or main memory is full."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    said = str(error)
    known = should_reduce_batch_size(RuntimeError(said))  # it wants one argument, a text
    return known or any(sign in said for sign in _SIGNS)


@contextmanager
def explained(
    doing: str,
    model: PreTrainedModel | None = None,
    tokens: int | None = None,
    ways: Sequence[str] = (),
) -> Iterator[None]:
    """Turn an error that means full memory into one sentence; other errors pass.

    What the failed work held is freed even if the error is kept, as a notebook does.

    Args:
        doing: the work, such as ``"scoring"``.
        model: whose device and dtype are in the message.
        tokens: length of the single item that does not fit, where it is known.
        ways: options that help here, beside those for any model.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        failure = out_of_memory(doing, model, tokens, ways)
        free(error)
        raise failure from error


def free(error: BaseException) -> None:
    """Free the tensors in the frames of an error, and what the allocator holds in reserve."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)  # frames that still run are left alone
        link = link.__cause__ or link.__context__
    clear_device_cache(garbage_collection=True)


def out_of_memory(
    doing: str,
    model: PreTrainedModel | None = None,
    tokens: int | None = None,
    ways: Sequence[str] = (),
) -> OutOfMemoryError:
    """Return the error whose sentence says what did not fit where; arguments as ``explained``."""
    where, options = "", [*ways, "a smaller model"]
    if model is not None:
        few_bits = getattr(model, "hf_quantizer", None) is not None
        dtype = str(model.dtype).removeprefix("torch.")
        item = f"a batch of one, {tokens:,} tokens," if tokens else "it"
        where = f" on {model.device}"
        doing += f": {item} does not fit beside the weights in {dtype}"
        options = [*ways, *smaller(model.device, model.dtype, few_bits), "a smaller model"]
    shorter = ", shorten the longest question or context" if tokens else ""
    return OutOfMemoryError(
        f"Memory ran out{where} while {doing}; end other programs that use this memory{shorter}, "
        f"or take {_either(options)}."
    )


def not_held(
    name: str, device: torch.device, dtype: torch.dtype, few_bits: bool, size: int = 0
) -> OutOfMemoryError:
    """Return the error for weights of ``size`` bytes (0: unknown) that a device cannot hold."""
    takes = f"its weights take {size / 2**30:.1f} GiB in" if size else "its weights are in"
    return OutOfMemoryError(
        f"The model {name!r} does not fit into the memory of {device}: {takes} "
        f"{str(dtype).removeprefix('torch.')}; end other programs that use this memory, or take "
        f"{_either([*smaller(device, dtype, few_bits), 'a smaller model'])}."
    )


def smaller(device: torch.device, dtype: torch.dtype, few_bits: bool) -> list[str]:
    """Return the options that make a model take less memory of a device."""
    ways = []
    if dtype == torch.float32 and not few_bits:
        ways.append("--dtype bfloat16")
    if device.type == "cuda":
        ways += [] if few_bits else ["--quantize 8bit or 4bit"]
        ways += ["--device auto"] if torch.cuda.device_count() > 1 else []
    return [*ways, "--device cpu"] if device.type != "cpu" else ways


def _either(ways: Sequence[str]) -> str:
    return " or ".join([*filter(None, [", ".join(ways[:-1])]), ways[-1]])
