"""Who uses this explorer, what they may do, and what of it they have used up.

Without `SAE_EXPLORER_HOSTING` nobody logs in and everything is allowed: an explorer on a laptop.
The variable names a file (`policy`), which says who people are (`people`), what each role may do
(`rights`) and how much a person may use in a day (`spending`). `desk` is the one way to a job.
"""
