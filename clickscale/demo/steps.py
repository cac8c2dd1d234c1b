"""The demo's choices: which log, which models, which names."""

LOG = "movielens-100k"
# What is trained: a model, its size and the behaviors that it sees. Teacher and student train together.
DIN, STUDENT, TEACHER = "din:size-2:100", "lightsuan:size-2:100", "suan:size-3:100"
OPTIONS: tuple[str, ...] = ()  # the recipe decides
DISTILLATION: tuple[str, ...] = ()
ALONE, TAUGHT = "student alone", "distilled student"
CANDIDATES = 500  # of the request whose latency is measured
