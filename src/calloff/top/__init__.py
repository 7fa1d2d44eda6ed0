"""Floor 7: the screen of ``calloff top``, made with Textual (extra ``top``).

It looks through `calloff.control` only, at records, and asks for no more rows than it shows: so ten thousand operations
cost the watched programs next to nothing. `_cells` says what stands in a row, `_table` draws the rows that are in sight,
`_detail` tells everything about one, `_cancel` asks before it calls off and words the verdict, `_app` ties them together.
"""
