"""64-bit hashes of values that are the same in every process, on every machine and with every polars: they are kept in state.

(Polars' own `hash` promises that within one version only.) A number is mixed by the finaliser of SplitMix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", 2014); a text is cut into words of eight bytes, and a list into the hashes of its items,
which are mixed with their places and added up. It spreads values well; it does not hold off people who choose values to collide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from streamlab.errors import PlanError

if TYPE_CHECKING:
    from streamlab.plan.sketches import Ints

Words = npt.NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_NULL = np.uint64(0x5851F42D4C957F2D)
_WORD = 8
_PAD = bytes(_WORD)


def stable_hash(values: pl.Series) -> Words:
    """Return a hash for each value: equal for values that `group_by` puts in one group; a null has one as well.

    Raises
    ------
    PlanError
        If the values are Python objects.

    Examples
    --------
    >>> [hex(h) for h in stable_hash(pl.Series(["AA", "UA", "AA"]))]
    ['0xc6d1e5a2c6a5b218', '0xa57157947942b608', '0xc6d1e5a2c6a5b218']
    """
    with np.errstate(over="ignore"):
        hashes = _hashes(values)
    if values.null_count():
        hashes = np.where(values.is_null().to_numpy(), _NULL, hashes)
    return hashes


def _hashes(values: pl.Series) -> Words:  # noqa: PLR0911  # a way for each kind of type
    dtype = values.dtype
    if dtype in (pl.String, pl.Binary):
        return _bytes(values.cast(pl.Binary))
    if dtype.is_float():
        return _floats(values.cast(pl.Float64).fill_null(0.0).to_numpy())
    if dtype == pl.UInt64:
        return _mixed(values.fill_null(0).to_numpy().astype(np.uint64))
    if (dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128)) or dtype == pl.Boolean or dtype.is_temporal():
        return _mixed(values.to_physical().cast(pl.Int64).fill_null(0).to_numpy().view(np.uint64))
    if isinstance(dtype, pl.Array):
        return _hashes(values.cast(pl.List(dtype.inner)))
    if isinstance(dtype, pl.List):
        lengths = values.list.len().fill_null(0).cast(pl.Int64).to_numpy()
        items = stable_hash(values.explode(empty_as_null=False, keep_nulls=False))
        return _added(items, lengths, lengths)
    if isinstance(dtype, pl.Struct):
        fields = [stable_hash(values.struct.field(field.name)) for field in dtype.fields]
        width = np.full(len(values), len(fields))
        return _added(np.stack(fields, axis=1).ravel() if fields else np.empty(0, np.uint64), width, width)
    if dtype == pl.Null:
        return np.full(len(values), _NULL)
    if dtype == pl.Object:
        raise PlanError(
            "values of type Object are Python objects, which have no hash that lasts; use text, numbers or times."
        )
    return _bytes(values.cast(pl.String).cast(pl.Binary))  # Decimal, Categorical, Enum, integers of 128 bits


def _mixed(words: Words) -> Words:
    words = words + _STEP
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Words = words ^ (words >> np.uint64(31))
    return mixed


def _floats(values: npt.NDArray[np.float64]) -> Words:
    """-0.0 is 0.0, and all that is no number is one value."""
    return _mixed(np.where(np.isnan(values), np.nan, values + 0.0).view(np.uint64))


def _bytes(values: pl.Series) -> Words:
    sizes = values.bin.size().fill_null(0).cast(pl.Int64).to_numpy()
    joined = np.frombuffer(b"".join(values.drop_nulls().to_list()) + _PAD, np.uint8)
    words = (sizes + (_WORD - 1)) // _WORD
    row = np.repeat(np.arange(len(sizes)), words)
    place = _WORD * _places(words)
    at = (np.cumsum(sizes) - sizes)[row] + place
    every: Words = np.ndarray(len(joined) - _WORD + 1, "<u8", joined, strides=(1,))  # the word that begins at each byte
    rest = sizes[row] - place
    beyond = (_WORD * np.maximum(_WORD - rest, 0)).astype(np.uint64)
    return _added((every[at] << beyond) >> beyond, words, sizes)


def _places(lengths: Ints) -> Ints:
    """Return for each item of lists its place in its list."""
    starts = np.cumsum(lengths) - lengths
    places: Ints = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
    return places


def _added(items: Words, lengths: Ints, sizes: Ints) -> Words:
    """Return one hash for the words of each row; rows lie end to end."""
    place = _places(lengths).astype(np.uint64)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(items ^ _mixed(place)), dtype=np.uint64)])
    ends = np.cumsum(lengths)
    return _mixed((sums[ends] - sums[ends - lengths]) ^ _mixed(sizes.astype(np.uint64)))
