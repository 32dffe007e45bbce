"""Campaigns: every test of some suites on many seeds, in virtual time, over all cores or over many machines.

    part.py      what travels: a part of the work, and what was found in it
    session.py   the program that does a part: one pytest session that runs its tests again for each seed
    process.py   one such process, from its start to its end, wherever it runs
    workers.py   who does parts: threads of this process that wait for processes, or the workers of a Dask cluster
    run.py       hands out the parts, and takes care of those that did not come back
    tally.py     what all of it comes to (pure): counts, rates with their bounds, the first bad seeds
    show.py      what a terminal shows meanwhile, and the table at its end
    report.py    campaign.json and campaign.md

The tests themselves are run, not scenarios taken out of them: what a test expects, and what it asserts by hand, counts for
every seed.
"""
