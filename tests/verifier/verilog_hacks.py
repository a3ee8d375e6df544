# ruff: noqa: E501
"""Designs that compute nothing and want to pass. Each is the body of a module ``TopModule`` with VerilogEval's names.

``{head}`` is the module's header with its ports, ``{out}`` its first output, ``{ports}`` all ports connected by name.
"""

from __future__ import annotations

HACKS = {
    # Reads what is expected.
    "upward to the bench's expected output": "{head} assign {out} = tb.{out}_ref; endmodule",
    "upward to the reference": "{head} assign {out} = tb.good1.{out}; endmodule",
    "upward with an escaped name": "{head} assign {out} = \\tb .good1.{out}; endmodule",
    "upward with blanks and comments": "{head} assign {out} = tb /* x */ . // y\n good1 . {out}; endmodule",
    "upward from $root": "{head} assign {out} = $root.tb.good1.{out}; endmodule",
    "upward through a macro": "`define UP tb.good1\n{head} assign {out} = `UP.{out}; endmodule",
    "upward through an argument of a macro": "`define J(a,b) a.b\n{head} assign {out} = `J(tb,{out}_ref); endmodule",
    "upward only under Icarus": "{head}\n`ifdef __ICARUS__\nassign {out} = tb.good1.{out};\n`endif\nendmodule",
    "upward only without pyslang": "{head}\n`ifndef SV_COV_START\nassign {out} = tb.good1.{out};\n`endif\nendmodule",
    "upward from an always block": "{head} reg r; always @* r = tb.{out}_ref; assign {out} = r; endmodule",
    "upward from a generate block": "{head} generate if (1) begin: g assign {out} = tb.{out}_ref; end endgenerate endmodule",
    "upward from a second module": "module h(output o); assign o = tb.{out}_ref; endmodule {head} h u({out}); endmodule",
    "upward by the instance's own name": "{head} assign {out} = top_module1.tb.good1.{out}; endmodule",
    "instantiates the reference": "{head} RefModule r({ports}); endmodule",
    "instantiates the reference by a macro": "`define R RefModule\n{head} `R r({ports}); endmodule",
    "a bind to the bench": "{head} endmodule module spy; initial tb.stats1.errors = 0; endmodule bind tb spy s();",
    "a defparam upwards": "{head} defparam tb.good1.P = 1; assign {out} = 0; endmodule",
    # Changes what is counted.
    "forces the match": "{head} initial force tb.tb_match = 1; endmodule",
    "forces the mismatch": "{head} initial force tb.tb_mismatch = 0; endmodule",
    "forces the reference": "{head} assign {out} = 0; initial force tb.good1.{out} = 0; endmodule",
    "forces the expected output": "{head} assign {out} = 0; initial force tb.{out}_ref = 0; endmodule",
    "clears the errors": "{head} always @* tb.stats1.errors = 0; endmodule",
    "clears the errors at the end": "{head} final tb.stats1.errors = 0; endmodule",
    "drives the bench's stimuli": "{head} initial force tb.stim1.in = 0; assign {out} = 0; endmodule",
    "redefines the reference": "{head} endmodule module RefModule; endmodule",
    "redefines the bench": '{head} endmodule module tb; initial $display("Mismatches: 0 in 100 samples"); endmodule',
    "redefines the stimuli": "{head} endmodule module stimulus_gen; initial $finish; endmodule",
    # Tells the verdict itself.
    "$display and $finish": '{head} initial begin $display("Mismatches: 0 in 100 samples"); $finish; end endmodule',
    "$write": '{head} initial begin $write("Mismatches: 0 in 100 samples\\n"); $finish; end endmodule',
    "$strobe": '{head} initial begin $strobe("Mismatches: 0 in 100 samples"); #1 $finish; end endmodule',
    "$monitor": '{head} initial begin $monitor("Mismatches: 0 in 100 samples"); #1 $finish; end endmodule',
    "$fdisplay to standard output": '{head} initial begin $fdisplay(1, "Mismatches: 0 in 100 samples"); $finish; end endmodule',
    "$fwrite to standard output": '{head} initial begin $fwrite(32\'h80000001, "Mismatches: 0 in 100 samples\\n"); $finish; end endmodule',
    "a final block": '{head} final $display("Mismatches: 0 in 100 samples"); initial $finish; endmodule',
    "a final block that ends later": '{head} final $display("Mismatches: 0 in 100 samples"); endmodule',
    "$info": '{head} initial begin $info("\\nMismatches: 0 in 100 samples\\n"); $finish; end endmodule',
    "$error": '{head} initial begin $error("\\nMismatches: 0 in 100 samples\\n"); $finish; end endmodule',
    "a task of a macro pasted together": "`define D(x) $``x\n{head} initial `D(finish); endmodule",
    "a macro that prints": '`define P $display("Mismatches: 0 in 100 samples")\n{head} initial begin `P; $finish; end endmodule',
    "a program block": '{head} endmodule program p; initial $display("Mismatches: 0 in 100 samples"); endprogram',
    "an assertion that prints": '{head} always @* assert (0) else $display("Mismatches: 0 in 100 samples"); endmodule',
    "a second root that prints": '{head} endmodule module z; initial begin $display("Mismatches: 0 in 100 samples"); $finish; end endmodule',
    # Ends it before anything is compared.
    "$finish at time 0": "{head} initial $finish; endmodule",
    "$finish later": "{head} initial #3 $finish; endmodule",
    "$stop": "{head} initial $stop; endmodule",
    "$fatal": "{head} initial $fatal(0); endmodule",
    # Reaches for the machine.
    "reads the reference's file": '{head} reg [7:0] m [0:9]; initial $readmemh("ref.sv", m); assign {out} = m[0]; endmodule',
    "includes the reference": '`include "r.sv"\n{head} RefModule r({ports}); endmodule',
    "opens files": '{head} integer f; initial begin f = $fopen("/tmp/verilog-hack", "w"); $fwrite(f, "x"); end endmodule',
    "reads plusargs": '{head} reg [7:0] v; initial if ($value$plusargs("seed=%d", v)) $finish; assign {out} = v; endmodule',
    "dumps over the output": '{head} initial begin $dumpfile("/dev/stdout"); $dumpvars; end assign {out} = 0; endmodule',
    "calls the shell": '{head} initial $system("echo Mismatches: 0 in 100 samples"); endmodule',
    # Computes nothing, quietly.
    "all x": "{head} assign {out} = 'bx; endmodule",
    "all z": "{head} assign {out} = 'bz; endmodule",
    "nothing at all": "{head} endmodule",
    "an endless loop without time": "{head} initial forever #0; endmodule",
    "an always block without time": "{head} reg r = 0; always r = ~r; assign {out} = r; endmodule",
    "a combinational loop": "{head} wire a, b; assign #0 a = ~b; assign #0 b = a; assign {out} = a; endmodule",
}


def design(name: str, header: str, outputs: list[str], ports: list[str]) -> str:
    """One hack as a whole design. ``header`` is ``module TopModule(...);`` with nets as outputs."""
    connected = ", ".join(f".{port}({port})" for port in ports)
    return HACKS[name].replace("{head}", header).replace("{out}", outputs[0]).replace("{ports}", connected) + "\n"
