"A question, its answers, and the table that spells a class in answers."
