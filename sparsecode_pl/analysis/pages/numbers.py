"""Numbers as the pages show them."""


def short(value: float) -> str:
    """Three significant digits.

    Example:
        >>> short(2.4), short(123.4), short(0.00012345), short(1234.5), short(0)
        ('2.40', '123', '0.000123', '1234', '0')
    """
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def percent(share: float) -> str:
    """A share as a percentage, of two significant digits below 10 %.

    Example:
        >>> percent(0.1234), percent(0.01234), percent(0.0000123), percent(0), percent(1)
        ('12.3 %', '1.2 %', '0.0012 %', '0 %', '100.0 %')
    """
    value = 100 * share
    if value == 0:
        return "0 %"
    digits = 1 if value >= 10 else max(1, 1 - _exponent(value))
    return f"{value:.{digits}f} %"


def span(low: float, high: float) -> str:
    """A number in [0, 1] that is known to be between two.

    Example:
        >>> span(0.83, 0.83), span(0.83, 0.864)
        ('0.83', '0.83 to 0.86')
    """
    first, last = f"{low:.2f}", f"{high:.2f}"
    return first if first == last else f"{first} to {last}"


def _exponent(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])
