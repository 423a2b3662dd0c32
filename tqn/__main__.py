"`python -m tqn`, and `torchrun -m tqn` or `accelerate launch -m tqn` for many processes"
from tqn.cli.main import main

if __name__ == '__main__': main()
