"""The Verilog that we write ourselves: recorder, bench for a design alone, player.

Every name is a nonce's or the design's own: a design that guesses at names finds nothing. Each text starts with
`` `resetall`` and a time scale of its own, so that no directive of another text reaches into it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from grpo_project.verifier.verilog.stimuli import Interface, Port, Stimuli, bits_for

HEAD = "`resetall\n`timescale 1ps/1ps\n"
STIMULI_FILE, PLAYED_FILE = "stimuli.mem", "played.mem"


def _formats(ports: Sequence[Port]) -> str:
    return " ".join("%b" for _ in ports)


def _names(ports: Sequence[Port], prefix: str = "") -> str:
    return ", ".join(f"{prefix}{port.name} " for port in ports).rstrip()


def _events(ports: Sequence[Port], prefix: str = "") -> str:
    return " or ".join(f"{prefix}{port.name} " for port in ports)


def _parameters(interface: Interface, given: bool) -> str:
    """The overridden parameters: passed on to an instance, or with their values at a definition."""
    if not interface.parameters:
        return ""
    if given:
        return " #(" + ", ".join(f".{name} ({name} )" for name, _ in interface.parameters) + ")"
    return " #(" + ", ".join(f"parameter {name} = {value}" for name, value in interface.parameters) + ")"


def _header(interface: Interface, *, registers: bool) -> str:
    kinds = {"in": "input", "out": "output reg" if registers else "output"}
    ports = ", ".join(f"{kinds[port.direction]} [{port.width - 1}:0] {port.name} " for port in interface.ports)
    return f"{HEAD}module {interface.module}{_parameters(interface, given=False)} ({ports});\n"


def _logger(interface: Interface, nonce: str) -> str:
    """Prints every change of the inputs, and the outputs at the end of each time step that changed them."""
    inputs, outputs = interface.inputs, interface.outputs
    text = f'final $display("@{nonce} E %0d", $time);\n'
    if inputs:
        line = f'{_formats(inputs)}", $time, {_names(inputs)});'
        text += f'initial $display("@{nonce} I %0d {line}\n'
        text += f'always @({_events(inputs)}) $display("@{nonce} C %0d {line}\n'
        text += f'always @({_events(inputs)}) begin #0 $display("@{nonce} Z %0d {line} end\n'
    if outputs:
        line = f'$strobe("@{nonce} O %0d {_formats(outputs)}", $time, {_names(outputs)});'
        text += f"initial {line}\nalways @({_events(outputs)}) {line}\n"
    return text


def recorder(interface: Interface, inner: str, nonce: str) -> str:
    """A module in the design's place round ``inner``, the reference under another name."""
    ports = ", ".join(f".{port.name} ({port.name} )" for port in interface.ports)
    instance = f"{inner}{_parameters(interface, given=True)} u{nonce} ({ports});\n"
    return _header(interface, registers=False) + instance + _logger(interface, nonce) + "endmodule\n"


def player(interface: Interface, outputs: Sequence[tuple[int, str]], nonce: str) -> tuple[str, str]:
    """A module that plays recorded outputs in the design's place, and its memory file."""
    width = sum(port.width for port in interface.outputs)
    targets = "{" + _names(interface.outputs) + "}"
    times = [0, *(time for time, _ in outputs)]
    delays = [time - before for before, time in itertools.pairwise(times)]
    delay_bits = bits_for(delays)
    memory = [f"{delay:0{delay_bits}b}{bits}\n" for delay, (_, bits) in zip(delays, outputs, strict=True)]
    n, count = nonce, len(memory)
    body = f"""reg [{width + delay_bits - 1}:0] m{n} [0:{max(count, 1) - 1}];
reg [{delay_bits - 1}:0] t{n}; reg [{width - 1}:0] v{n}; integer i{n};
initial begin
  $readmemb("{PLAYED_FILE}", m{n});
  for (i{n} = 0; i{n} < {count}; i{n} = i{n} + 1) begin
    {{t{n}, v{n}}} = m{n}[i{n}];
    if (t{n} != 0) #(t{n});
    {targets} <= v{n};
  end
end
"""
    return _header(interface, registers=True) + _logger(interface, nonce) + body + "endmodule\n", "".join(memory)


def alone(interface: Interface, stimuli: Stimuli, nonce: str, *, traced: bool) -> str:
    """A bench that drives the design by itself and prints its outputs: at each sample, or at every change if traced.

    Its last line is ``@nonce E time``; the module is called ``b`` and the nonce.
    """
    n, inputs, outputs = nonce, interface.inputs, interface.outputs
    width = max(1, sum(port.width for port in inputs))
    declared, position = [], 0
    for port in inputs:
        bits = stimuli.start[position : position + port.width]
        position += port.width
        start = "" if set(bits) <= {"x"} else f" = {port.width}'b{bits}"
        declared.append(f"reg [{port.width - 1}:0] i{n}{port.name}{start};")
    declared += [f"wire [{port.width - 1}:0] o{n}{port.name} ;" for port in outputs]
    connected = [f".{port.name} (i{n}{port.name} )" for port in inputs]
    connected += [f".{port.name} (o{n}{port.name} )" for port in outputs]
    values = ""
    if interface.parameters:
        values = " #(" + ", ".join(f".{name} ({value})" for name, value in interface.parameters) + ")"
    targets = "{" + _names(inputs, f"i{n}") + "}" if inputs else f"x{n}"
    events = _events(inputs, f"i{n}") or f"x{n}"
    shown = f'{_formats(outputs)}", {_names(outputs, f"o{n}")});'
    trace = f'$strobe("%0d {_formats(outputs)}", $time, {_names(outputs, f"o{n}")});'
    tracer = f"initial {trace}\nalways @({_events(outputs, f'o{n}')}) {trace}\n" if traced else ""
    count, now = len(stimuli.entries), sum(delay for delay, _, _ in stimuli.entries)
    return f"""{HEAD}module b{n};
{chr(10).join(declared)}
{interface.module}{values} u{n} ({", ".join(connected)});
reg [{width + stimuli.delay_bits + 1}:0] m{n} [0:{max(count, 1) - 1}];
reg [{stimuli.delay_bits - 1}:0] t{n}; reg [1:0] k{n}; reg [{width - 1}:0] v{n}, x{n}; integer c{n};
{tracer}initial begin
  {f'$readmemb("{STIMULI_FILE}", m{n});' if count else ""}
  for (c{n} = 0; c{n} < {count}; c{n} = c{n} + 1) begin
    {{t{n}, k{n}, v{n}}} = m{n}[c{n}];
    if (t{n} != 0) #(t{n});
    case (k{n})
      0: {targets} = v{n};
      1: $display("{shown}
      default: begin {targets} <= v{n}; @({events}); end
    endcase
  end
  #({max(0, stimuli.end - now) + 1}) $display("@{n} E %0d", $time);
  $finish(0);
end
endmodule
"""
