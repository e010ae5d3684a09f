"""The report of a gated session: one page that needs nothing else, and a summary in Markdown.

`reading` takes a folder in, `view` says what is to be shown, `page` and `markdown` say it.
"""
