"""How a Verilog design is judged: checked on its own, simulated on its own, its outputs compared outside of the cage.

The design never shares a simulation with expected values where that can be helped. Imports neither torch nor wandb;
``resident`` and ``check`` run inside the cage and import nothing of the rest.
"""
