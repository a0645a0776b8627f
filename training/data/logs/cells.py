"""What a log's cells mean: text, lists and times in the many ways in which they are written."""

import polars as pl

ISO = (
    r"^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d))?(?:[.,](\d{1,3})\d*)?)?"
    r"\s*(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?$"
)
"""date, hour and minute, second, milliseconds, zone: also as PostgreSQL writes it, with +00."""
UNITS_MS = {"unix_s": 1000.0, "unix_ms": 1.0, "unix_us": 0.001}
BRACKETS = " []{}()"
QUOTES = " \"'"
NO_ITEMS = pl.lit([], dtype=pl.List(pl.String))


def as_text(cell: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Trimmed text; null where there is none."""
    if dtype.is_float():  # whole numbers became floats where some were missing
        whole = cell.cast(pl.Int64, strict=False)
        cell = pl.when(cell == whole).then(whole.cast(pl.String)).otherwise(cell.cast(pl.String))
    return cell.cast(pl.String).str.strip_chars().replace("", None)


def as_list(cell: pl.Expr, dtype: pl.DataType, separator: str) -> pl.Expr:
    """A list of texts, without missing ones; empty where there is none. Text is split, without
    brackets around it and quotes around its items; a single value is a list of one."""
    if isinstance(dtype, pl.List | pl.Array):
        cell = cell.arr.to_list() if isinstance(dtype, pl.Array) else cell
        items = cell.list.eval(as_text(pl.element(), dtype.inner))  # type: ignore[arg-type]
    elif dtype in (pl.String, pl.Categorical, pl.Enum):
        words = cell.cast(pl.String).str.strip_chars(BRACKETS).str.split(separator)
        items = words.list.eval(pl.element().str.strip_chars(QUOTES).replace("", None))
    else:
        items = pl.concat_list(as_text(cell, dtype))
    return items.list.drop_nulls().fill_null(NO_ITEMS)


def as_time(cell: pl.Expr, dtype: pl.DataType, form: str, zone: str) -> pl.Expr:
    """The time in UTC, without a zone, to the millisecond; null where it can't be read."""
    if isinstance(dtype, pl.Datetime):
        return to_utc(cell, dtype.time_zone, zone)
    if dtype == pl.Date:
        return to_utc(cell.cast(pl.Datetime("ms")), None, zone)
    if form in UNITS_MS:
        amount = cell.cast(pl.Float64, strict=False) * UNITS_MS[form]
        return amount.round().cast(pl.Int64, strict=False).cast(pl.Datetime("ms"))
    text = cell.cast(pl.String).str.strip_chars()
    if form == "iso":
        return iso_time(text, zone)
    aware = "%z" in form or "%:z" in form
    time = text.str.to_datetime(form, strict=False, time_unit="ms")
    return to_utc(time, "UTC" if aware else None, zone)


def to_utc(time: pl.Expr, has: str | None, zone: str) -> pl.Expr:
    """has: the zone that the times have already. An hour that a clock shows twice is taken to be
    the earlier; one that it skips is null."""
    if has is None:
        time = time.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return time.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("ms"))


def iso_time(text: pl.Expr, zone: str) -> pl.Expr:
    """Date and time by ISO 8601, a date alone, or as databases write them."""
    parts = text.str.extract_groups(ISO).struct
    date, minute, second, fraction, offset = (parts.field(str(n)) for n in range(1, 6))
    second, minute = second.fill_null("00"), minute.fill_null("00:00")
    local = pl.concat_str(date, minute, second, separator=" ").str.to_datetime(
        "%Y-%m-%d %H:%M %S", strict=False, time_unit="ms"
    )
    local = local + pl.duration(
        milliseconds=fraction.str.pad_end(3, "0").cast(pl.Int64).fill_null(0), time_unit="ms"
    )
    digits = offset.str.replace_all(r"[^0-9+-]", "").str.pad_end(5, "0")
    minutes = digits.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + digits.str.slice(
        3, 2
    ).cast(pl.Int64, strict=False)
    ahead = pl.when(digits.str.starts_with("-")).then(-minutes).otherwise(minutes)
    of_offset = local - pl.duration(minutes=ahead.fill_null(0), time_unit="ms")
    return pl.when(offset.is_null()).then(to_utc(local, None, zone)).otherwise(of_offset)
