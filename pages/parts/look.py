"""How all pages look beyond what Streamlit's theme can say, and which of the two themes it is."""

import streamlit as st

from core.view.contrast import CAPTION_INKS, INKS

_STYLE = """<style>
/* Streamlit's captions have three fifths of the ink, which is too faint to be read (WCAG 2.2). */
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p,
[data-testid="stWidgetLabelHelp"], [data-testid="InputInstructions"],
[data-testid="stFileUploaderDropzoneInstructions"] span
{color:light-dark(LIGHT,DARK);opacity:1}
/* What cannot be chosen is greyed, but its name is read. */
[data-testid="stWidgetLabel"] p{color:light-dark(INK,PALE)}
/* The theme's colour is for surfaces: as text it is too faint. */
button[data-selected="true"] [data-testid="stMarkdownContainer"] p,
[data-testid="stSliderThumbValue"]
{color:light-dark(INK,PALE);font-weight:600}
[data-testid="stMainBlockContainer"]{padding-top:2.75rem;padding-bottom:4rem}
[data-testid="stMetricValue"]{font-size:1.5rem}
[data-testid="stMain"] h1{padding-top:0;padding-bottom:.35rem;font-size:2.1rem}
/* On a phone a plot whose labels take room is moved sideways rather than squeezed. */
@media (max-width:640px){
[class*="st-key-grad_"]:has([data-testid="stPlotlyChart"]){overflow-x:auto}
[class*="st-key-grad_"]:has([data-testid="stPlotlyChart"])>*{min-width:700px}
[data-testid="stMainBlockContainer"]{padding-top:4.5rem}
}
/* Plots with a width of their own (wide.py) keep it, and are moved sideways on a narrow screen. */
[class*="st-key-wide_"]{overflow-x:auto;overflow-y:hidden;overscroll-behavior-x:contain}
[class*="st-key-wide_"] [data-testid="stElementContainer"],
[class*="st-key-wide_"] [data-testid="stFullScreenFrame"]
{max-width:none!important;flex-shrink:0}
/* Two small tables stand side by side only where both can be read. */
.st-key-logit_tables [data-testid="stHorizontalBlock"]{flex-wrap:wrap}
.st-key-logit_tables [data-testid="stColumn"]{min-width:172px}
/* Where something comes in a moment: lines as those of a table. */
.sx-wait{box-sizing:border-box;border:1px solid rgba(128,128,128,.25);border-radius:.5rem;
padding:.35rem .75rem;font-size:.875rem;color:light-dark(LIGHT,DARK);overflow:hidden;
background:repeating-linear-gradient(transparent 0 34px,rgba(128,128,128,.16) 34px 35px)}
/* What is said of a picture to those who do not see it; it takes no room. */
[data-testid="stElementContainer"]:has(.sx-said),
[data-testid="stElementContainer"]:has(>[data-testid="stHtml"]>style:only-child)
{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
</style>"""
for _name, _value in {
    "LIGHT": CAPTION_INKS[False],
    "DARK": CAPTION_INKS[True],
    "INK": INKS[False],
    "PALE": INKS[True],
}.items():
    _STYLE = _STYLE.replace(_name, _value)


def apply() -> None:
    """Once a run, before anything is drawn."""
    st.html(_STYLE)


def is_dark() -> bool:
    """Whether the reader's page has the dark theme."""
    return st.context.theme.type == "dark"
