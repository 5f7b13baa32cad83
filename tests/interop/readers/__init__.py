"""Programs that read streams with the HTTP clients that users have, in each one's plainest use.

All have one form: READER KIND (ID CODING URL)... reads every URL at the same time, prints each line that comes as
``ID|line``, and at each stream's end ``ID.`` or ``ID!error``. CODING is what to ask for; ``-``: what the client asks
for by itself.
"""
