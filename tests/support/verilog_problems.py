"""Small Verilog problems: one module, and a bench in each way that benches are written."""

from __future__ import annotations

XOR = "module TopModule(input a, input b, output q);\n  assign q = a ^ b;\nendmodule\n"

ADDER_BENCH = """`timescale 1ns/1ps
module testbench;
  reg a, b; wire q; integer passed = 0, failed = 0, i;
  TopModule uut(.a(a), .b(b), .q(q));
  initial begin
    for (i = 0; i < 4; i = i + 1) begin
      {a, b} = i; #10;
      if (q === (a ^ b)) begin passed = passed + 1; $display("Test Case %0d: PASS", i + 1); end
      else begin failed = failed + 1; $display("Test Case %0d: FAIL - Expected %b, Got %b", i + 1, a ^ b, q); end
    end
    $display("Passed: %0d, Failed: %0d", passed, failed);
    $display("Total Test Cases: 4");
    if (failed == 0) $display("OVERALL_PASS"); else $display("OVERALL_FAIL");
    $finish;
  end
endmodule
"""
"""The guide's kind."""

EVAL_BENCH = """`timescale 1 ps/1 ps
module stimulus_gen(input clk, output reg a, output reg b);
  initial begin
    {a, b} <= 0;
    repeat (40) @(posedge clk, negedge clk) {a, b} <= $random;
    #1 $finish;
  end
endmodule
module tb();
  typedef struct packed { int errors; int errortime; int errors_q; int errortime_q; int clocks; } stats;
  stats stats1;
  reg clk = 0;
  initial forever #5 clk = ~clk;
  logic a, b, q_ref, q_dut;
  wire tb_match;
  wire tb_mismatch = ~tb_match;
  stimulus_gen stim1(.clk, .*);
  RefModule good1(.a, .b, .q(q_ref));
  TopModule top_module1(.a, .b, .q(q_dut));
  final begin
    if (stats1.errors_q) $display("Hint: Output '%s' has %0d mismatches.", "q", stats1.errors_q);
    else $display("Hint: Output '%s' has no mismatches.", "q");
    $display("Mismatches: %1d in %1d samples", stats1.errors, stats1.clocks);
  end
  assign tb_match = ({q_ref} === ({q_ref} ^ {q_dut} ^ {q_ref}));
  always @(posedge clk, negedge clk) begin
    stats1.clocks++;
    if (!tb_match) stats1.errors++;
    if (q_ref !== (q_ref ^ q_dut ^ q_ref)) stats1.errors_q = stats1.errors_q + 1'b1;
  end
endmodule
module RefModule(input a, input b, output q);
  assign q = a ^ b;
endmodule
"""
"""VerilogEval's kind."""

REACTING_BENCH = """module testbench;
  reg a, b; wire q; integer passed = 0, i;
  TopModule uut(.a(a), .b(b), .q(q));
  wire [0:0] other;
  TopModule second(.a(b), .b(a), .q(other[0]));
  initial begin
    for (i = 0; i < 4; i = i + 1) begin
      {a, b} = i; #10;
      if (q === (a ^ b) && other === q) begin passed = passed + 1; $display("Test Case %0d: PASS", i + 1); end
      else $display("Test Case %0d: FAIL", i + 1);
    end
    $display("Passed: %0d, Failed: %0d", passed, 4 - passed);
    $finish;
  end
endmodule
"""
"""Two instances of the design: neither can be recorded for the other, so that it is judged in the bench."""

RANDOM_BENCH = ADDER_BENCH.replace("{a, b} = i;", "{a, b} = $urandom;")
