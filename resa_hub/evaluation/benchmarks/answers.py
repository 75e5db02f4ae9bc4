r"""Reading an answer out of a completion: the last balanced `\boxed{...}`, a tag, an integer, a letter. Text only."""

import re

BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
WRAPPED = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
INTEGER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)")
NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d])")
LETTER = re.compile(r"[(\[]?\s*([A-Z])\s*[)\]]?\s*[.:]?")
STATED_LETTER = re.compile(r"answer(?:\s+is)?\s*:?\s*\**\s*[(\[]?([A-Z])(?![A-Za-z])", re.IGNORECASE)
END_OF_THINKING = "</think>"


def last_box(text: str) -> str | None:
    r"""The content of the last balanced `\boxed{...}`, of the inner one where boxes are nested; None without one.
    Escaped braces (`\{`) do not count.
    """
    content, position = None, 0
    while match := BOX.search(text, position):
        opening = match.end()
        closing = _closing_brace(text, opening)
        if closing is None:
            position = opening
        else:
            content, position = text[opening + 1 : closing], closing + 1
    inner = None if content is None else last_box(content)
    return content if inner is None else inner


def _closing_brace(text: str, opening: int) -> int | None:
    """The position of the brace that closes the one at `opening`."""
    depth, position = 0, opening
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return None


def after_thinking(text: str) -> str | None:
    """What stands behind the thinking: all of a text that does not think, None for one that never stopped thinking."""
    if END_OF_THINKING in text:
        return text.rpartition(END_OF_THINKING)[2]
    return None if "<think>" in text else text


def integer(text: str) -> int | None:
    """The integer that a boxed answer is, units and all signs of format removed; None for anything else (`2.5`, `1/2`,
    `3, 4`).
    """
    plain = plain_text(text).rpartition("=")[2]
    plain = re.sub(
        r"\\(?:,|!|;|:|quad|qquad|ldots|dots)|\{,\}|~", lambda match: "," if match[0] == "{,}" else "", plain
    )
    plain = re.sub(r"(?:\^\s*\{?\s*\\circ\s*\}?|\\circ|°|\\?%)\s*\.?$", "", plain.strip().rstrip("."))
    plain = re.sub(r"(?<=\d)\s+(?=\d{3}(?:\D|$))", "", plain.strip().removeprefix("\\$").strip())
    while plain.startswith("{") and plain.endswith("}"):
        plain = plain[1:-1].strip()
    return int(plain.replace(",", "")) if INTEGER.fullmatch(plain) else None


def last_integer(text: str) -> int | None:
    """The last number of a text where it is an integer."""
    numbers = NUMBER.findall(text)
    return int(numbers[-1].replace(",", "")) if numbers and "." not in numbers[-1] else None


def letter(text: str) -> str | None:
    """`C` of `C`, `(C)`, `\\text{C.}`; None for anything longer."""
    match = LETTER.fullmatch(plain_text(text).strip())
    return match[1] if match else None


def stated_letter(text: str) -> str | None:
    """The letter of the last `Answer: C` or `the answer is (C)`."""
    letters = STATED_LETTER.findall(text)
    return letters[-1].upper() if letters else None


def plain_text(text: str) -> str:
    r"""Without `$`, `\(`, `\left` and `\text{...}`; what these hold stays."""
    text = re.sub(r"\\left|\\right|\\\(|\\\)|\\\[|\\\]|(?<!\\)\$", "", text)
    while WRAPPED.search(text):
        text = WRAPPED.sub(r"\1", text)
    return text.strip()


def words(text: str) -> str:
    """For comparing texts: without format, case, spaces at the ends, and a closing full stop."""
    return re.sub(r"\s+", " ", plain_text(text)).strip().rstrip(".").casefold()


def tagged(text: str) -> str | None:
    """The content of the last `<answer>...</answer>`; None without one."""
    head, closed, _ = text.rpartition("</answer>")
    _, opened, answer = head.rpartition("<answer>")
    return answer if closed and opened else None
