"""How good is it: questions with known answers in, figures with intervals out.

In: a file of questions, configurations to compare. Out: a table, a page, JSON.
Read `study.py` first, then `runner.py` (asking) and `metrics.py` (what is counted). ``questions``
reads them, ``relevance`` says what counts as a hit, ``runner`` asks them of one
configuration, ``variants`` makes configurations to compare, ``metrics`` and ``bootstrap`` turn
outcomes into figures, ``study`` and ``summary`` put it all together, ``terminal`` and ``page`` show
it, ``judge`` has an LLM grade answers, ``generate`` makes questions from the documents themselves.
"""
