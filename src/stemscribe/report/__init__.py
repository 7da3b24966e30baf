"""The page of evidence: what was measured, shown and made audible, in one file that needs no network.

    evidence     everything the page is made of, read from the project and checked
    excerpt      a few seconds of one test track: audio, true notes, found notes
    markup       HTML that cannot be broken by what it quotes
    figures      intervals, tracks and learning curves as inline SVG
    pianoroll    true and found notes as inline SVG
    wording      the sentences around the numbers
    page         the page
    cards        model cards in Markdown
    markdown     tables and numbers for cards and for pages that are committed

Equal inputs give equal bytes: no dates, no random names.
"""
