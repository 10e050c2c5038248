"""Documents as token sequences, and which of the tokens count."""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DOCUMENTS = 1000  # tokenised at a time, fewer if they are long
_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class Sequences:
    """Token sequences as they go through the model, joined in flat arrays; none is empty.

    Attributes:
        tokens: (total,) int32.
        starts: where in `tokens` each sequence begins, and where the last one ends, (sequences + 1,) int64.
        document: the document of each token, (total,) int32.
        document_position: its index among the tokens of that document, (total,) int32; see `tokenize`.
        keep: whether its activation counts, (total,) bool.
    """

    tokens: NDArray[np.int32]
    starts: NDArray[np.int64]
    document: NDArray[np.int32]
    document_position: NDArray[np.int32]
    keep: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.starts) - 1

    def kept(self) -> NDArray[np.int64]:
        """Number of activations that count in each sequence, (sequences,) int64."""
        return _sums(self.keep, self.starts)

    def column(self, name: str) -> NDArray[np.int32]:
        """What is known of every token, (total,): its token_id, position (in its sequence), or an attribute's name."""
        if name == "position":
            return _positions(self.starts).astype(np.int32)
        found: NDArray[np.int32] = getattr(self, "tokens" if name == "token_id" else name)
        return found


def tokenize(
    documents: Iterable[str],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    context_length: int,
    packing: bool = False,
    keep_special: bool = False,
    skip_first: int = 0,
    num_activations: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sequences:
    """Turn documents into the token sequences of a model.

    Without packing, each document is one sequence, as the tokenizer makes it with its special tokens, cut at
    `context_length`; `document_position` is the position in it. With packing, the documents are tokenised without
    special tokens, joined with the end-of-text token (EOS, or else SEP, if there is one) between them, and divided into
    sequences of `context_length`, of which the last may be shorter. Each sequence begins with BOS or CLS if the
    tokenizer begins documents so. `document_position` is the index among the tokens of the document, -1 for added
    tokens.

    Special tokens are those that the tokenizer adds, and its BOS, EOS, CLS, SEP, padding and mask tokens, even if a
    document spells them out. An unknown word is text. Sequences in which nothing counts are left out. The tokenizer's
    own settings of truncation and padding are neither used nor changed.

    Args:
        documents: their texts; only as many as needed are read.
        tokenizer: of the model, fast or slow; a fast one uses all cores unless TOKENIZERS_PARALLELISM is false.
        context_length: maximum number of tokens in a sequence, at least 2.
        packing: join documents, so that all sequences except the last have full length.
        keep_special: let special tokens count.
        skip_first: number of positions at the start of every sequence that do not count.
        num_activations: stop at the sequence that completes this many tokens that count; None reads all documents. The
            documents may have fewer.
        progress: called now and then with the numbers of tokens that count and of documents read so far.

    Raises:
        ValueError: `context_length` or `skip_first` is out of range, or there is no document, or no token that counts.
    """
    encoder = _Encoder(tokenizer, context_length, packing, keep_special, skip_first)
    parts: list[Sequences] = []
    total = counted = read = 0
    for read, part in encoder.blocks(documents):
        kept = part.kept()
        total += len(part.tokens)
        counted += int(kept.sum())
        parts.append(_select(part, kept > 0))
        if progress is not None:
            progress(counted, read)
        if num_activations is not None and counted >= num_activations:
            break
    if read == 0:
        raise ValueError("documents is empty: give at least one text")
    if counted == 0:
        raise ValueError(
            f"documents ({read:,}) give {total:,} tokens, all of them special or in the first {skip_first} positions: "
            "give longer texts, a smaller skip_first, or keep_special=True"
        )
    sequences = _concatenate(parts)
    if num_activations is None or counted <= num_activations:
        return sequences
    enough = np.searchsorted(np.cumsum(sequences.kept()), num_activations) + 1
    return _select(sequences, np.arange(len(sequences)) < enough)


class _Encoder:
    """Turns documents into sequences: what the tokenizer does by itself, and what it is told to do."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        context_length: int,
        packing: bool,
        keep_special: bool,
        skip_first: int,
    ) -> None:
        if context_length < 2:
            raise ValueError(f"context_length is {context_length}: give at least 2")
        if not 0 <= skip_first < context_length:
            raise ValueError(
                f"skip_first is {skip_first}: give at least 0 and less than context_length, which is {context_length}"
            )
        # A fast tokenizer keeps the truncation and padding of its last call, so the caller's tokenizer is not used.
        self.tokenizer = tokenizer = copy.deepcopy(tokenizer)
        tokenizer.truncation_side = "right"
        tokenizer.verbose = False  # no warnings about missing tokens, or texts beyond the model's context
        self.context_length = context_length
        self.packing = packing
        self.skip_first = skip_first
        plain, whole = (self._encode(["a"], add_special_tokens=added)[0] for added in (False, True))
        named = (getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "cls", "sep", "pad", "mask"))
        special = {number for number in named if number is not None} | (set(whole) - set(plain))
        self.dropped = np.array([] if keep_special else sorted(special), np.int32)
        self.prefix = [number for number in whole[:1] if number in (tokenizer.bos_token_id, tokenizer.cls_token_id)]
        ending = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
        self.separator = [] if ending is None else [ending]
        added = len(self.prefix) if packing else len(whole) - len(plain)
        if context_length <= added:
            raise ValueError(
                f"context_length is {context_length}, and the tokenizer adds {added} special tokens: give at least "
                f"{added + 1}"
            )

    def blocks(self, documents: Iterable[str]) -> Iterator[tuple[int, Sequences]]:
        """The sequences of some documents at a time, and the number of documents read so far."""
        return self._packed(documents) if self.packing else self._truncated(documents)

    def _encode(self, texts: list[str], *, add_special_tokens: bool, max_length: int | None = None) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(
            texts,
            add_special_tokens=add_special_tokens,
            truncation=max_length is not None,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return ids

    def _truncated(self, documents: Iterable[str]) -> Iterator[tuple[int, Sequences]]:
        for first, texts in _batches(documents):
            ids = self._encode(texts, add_special_tokens=True, max_length=self.context_length)
            lengths = np.array([len(document) for document in ids])
            starts = _starts(lengths)
            tokens = np.fromiter(chain.from_iterable(ids), np.int32, int(lengths.sum()))
            document = np.repeat(np.arange(first, first + len(ids), dtype=np.int32), lengths)
            yield first + len(ids), self._marked(tokens, starts, document, _positions(starts).astype(np.int32))

    def _packed(self, documents: Iterable[str]) -> Iterator[tuple[int, Sequences]]:
        room = self.context_length - len(self.prefix)
        read, before = 0, -1  # number of documents, and the last one that was not empty
        stream = np.zeros((3, 0), np.int32)  # token, document and document_position of each place
        for first, texts in _batches(documents):
            columns = [stream]
            for number, ids in enumerate(self._encode(texts, add_special_tokens=False), start=first):
                if not ids:
                    continue
                if before >= 0:
                    columns += [np.array([[token], [before], [-1]], np.int32) for token in self.separator]
                columns.append(np.stack([ids, np.full(len(ids), number), np.arange(len(ids))]).astype(np.int32))
                before = number
            read = first + len(texts)
            stream = np.concatenate(columns, axis=1)
            full = stream.shape[1] // room * room
            yield read, self._cut(stream[:, :full], room)
            stream = stream[:, full:]  # waits for the next documents
        if stream.shape[1]:
            yield read, self._cut(stream, stream.shape[1])

    def _cut(self, stream: NDArray[np.int32], room: int) -> Sequences:
        """Cut a stream into sequences of `room` tokens after the prefix."""
        rows = stream.reshape(3, -1, room)
        for token in self.prefix:
            head = np.stack([np.full_like(rows[0, :, :1], token), rows[1, :, :1], np.full_like(rows[0, :, :1], -1)])
            rows = np.concatenate([head, rows], axis=2)
        tokens, document, document_position = rows.reshape(3, -1)
        return self._marked(tokens, np.arange(rows.shape[1] + 1) * rows.shape[2], document, document_position)

    def _marked(
        self,
        tokens: NDArray[np.int32],
        starts: NDArray[np.int64],
        document: NDArray[np.int32],
        document_position: NDArray[np.int32],
    ) -> Sequences:
        """The sequences, with the tokens marked that count."""
        keep = ~np.isin(tokens, self.dropped) & (_positions(starts) >= self.skip_first)
        return Sequences(tokens, starts, document, document_position, keep)


def _batches(documents: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Some documents at a time, with the number of the first one."""
    first, characters = 0, 0
    texts: list[str] = []
    for text in documents:
        texts.append(text)
        characters += len(text)
        if len(texts) == _DOCUMENTS or characters >= _CHARACTERS:
            yield first, texts
            first, characters, texts = first + len(texts), 0, []
    if texts:
        yield first, texts


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _positions(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The position of every token in its sequence."""
    return np.arange(starts[-1]) - np.repeat(starts[:-1], np.diff(starts))


def _sums(keep: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.diff(np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])[starts])


def _select(sequences: Sequences, chosen: NDArray[np.bool_]) -> Sequences:
    """Some of the sequences."""
    lengths = np.diff(sequences.starts)
    places = np.repeat(chosen, lengths)
    return Sequences(
        sequences.tokens[places],
        _starts(lengths[chosen]),
        sequences.document[places],
        sequences.document_position[places],
        sequences.keep[places],
    )


def _concatenate(parts: list[Sequences]) -> Sequences:
    return Sequences(
        np.concatenate([part.tokens for part in parts]),
        _starts(np.concatenate([np.diff(part.starts) for part in parts])),
        np.concatenate([part.document for part in parts]),
        np.concatenate([part.document_position for part in parts]),
        np.concatenate([part.keep for part in parts]),
    )
