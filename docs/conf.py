"""The site: Markdown pages, and the reference from the docstrings. Nothing is fetched."""

from importlib.metadata import version as version_of

project = "statehold"
copyright = "the statehold authors"
version = release = version_of("statehold")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autoclass_content = "both"

html_theme = "pydata_sphinx_theme"  # carries its own fonts and icons
html_theme_options = {"footer_start": ["copyright"], "footer_end": []}
html_title = "statehold"
html_sidebars = {"**": []}  # the pages have no sections to list there
html_copy_source = False
html_show_sourcelink = False
