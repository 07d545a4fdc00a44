"""Everything that is said can be read: contrast, and a look for each role."""

from __future__ import annotations

from typing import get_args

import pytest
from rich.color import Color
from rich.style import Style
from safehandle_tui.model.text import Role
from safehandle_tui.palette import DARK, LIGHT, TERMINAL, THEMES, Palette, paint, palette_for
from textual.theme import Theme

LEAST = 4.5  # WCAG AA for text
DECORATION = {"rule"}


def luminance(color: Color) -> float:
    """Relative luminance as WCAG defines it."""
    channels = [
        value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4
        for value in (part / 255 for part in color.get_truecolor())
    ]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


def contrast(style: Style) -> float:
    """Contrast of a style's colour on its background."""
    assert style.color is not None
    assert style.bgcolor is not None
    pair = sorted((luminance(style.color), luminance(style.bgcolor)))
    return (pair[1] + 0.05) / (pair[0] + 0.05)


@pytest.mark.parametrize("palette", [DARK, LIGHT])
@pytest.mark.parametrize("role", sorted(set(get_args(Role)) - DECORATION))
def test_contrast(palette: Palette, role: Role) -> None:
    """Each role on each background that it can stand on."""
    for ground in (palette.base, palette.cursor, palette.blurred, palette.bar):
        assert contrast(palette.base + palette.styles[role] + ground) >= LEAST


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_contrast_of_what_textual_paints(theme: Theme) -> None:
    """The filter line, messages, borders' titles and the palette of commands."""
    grounds = [theme.background, theme.surface, theme.panel]
    inks = [theme.foreground, theme.primary, theme.error, theme.warning, theme.success]
    for ink in inks:
        for ground in grounds:
            assert contrast(Style.parse(f"{ink} on {ground}")) >= LEAST, (ink, ground)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_themes_agree_with_their_palettes(theme: Theme) -> None:
    """What Textual paints stands on the same ground as what we paint."""
    ground = palette_for(theme).base.bgcolor
    assert ground is not None
    assert ground.get_truecolor().hex == theme.background


def test_the_contrast_test_can_fail() -> None:
    """Grey on grey is found."""
    assert contrast(Style.parse("#303030 on #121212")) < 2


def test_the_terminal_palette_names_no_colour_of_its_own() -> None:
    """In 16 colours only the terminal's own are used."""
    for style in (*TERMINAL.styles.values(), TERMINAL.base, TERMINAL.cursor, TERMINAL.bar):
        for color in (style.color, style.bgcolor):
            assert color is None or color.is_default or color.is_system_defined


@pytest.mark.parametrize("palette", [DARK, LIGHT, TERMINAL])
def test_alarms_differ_from_text_by_more_than_colour(palette: Palette) -> None:
    """Bold, too, as some do not see red."""
    assert palette.styles["bad"].bold
    assert not palette.styles["text"].bold


def test_themes_choose_their_palettes() -> None:
    """Dark and light."""
    assert [palette_for(theme) for theme in THEMES] == [DARK, LIGHT]


def test_paint_fills_the_line() -> None:
    """A strip is exactly as wide as its widget."""
    strip = paint((("ab", "text"), ("日", "bad")), 10, DARK)
    assert strip.cell_length == 10
    assert strip.text == "ab日      "
    assert paint((("abcdef", "text"),), 3, DARK).text == "abc"
