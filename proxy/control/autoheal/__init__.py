"""Rules: when this is seen, do that.

`readings` make `series` of what is known → `conditions/` look at them (`window`, `cron`, `watched`: what they share) →
`rules` with `guards` decide (`spell`: `for`; `scene`: what guards are told) → a `firing` is a chain of `actions/`,
which act through the mender. `engine` is the loop over it (`spread`: in small pieces), `builtin` holds the rules that
are on by default, `views` and `words` show them, `replay` runs a rule over `recorded` history, `docs` makes
docs/mending.md.
"""
