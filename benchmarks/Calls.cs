// Calls of a native function that does nothing, from C#: with an int, and with a SafeHandle.
// Prints both in ns, the fastest of many batches.
using System;
using System.Diagnostics;
using System.Runtime.InteropServices;

class Number : SafeHandle {
    public Number(int value) : base(IntPtr.Zero, true) { SetHandle((IntPtr)value); }
    public override bool IsInvalid { get { return handle == IntPtr.Zero; } }
    protected override bool ReleaseHandle() { return true; }
}

static class Calls {
    [DllImport("libc", EntryPoint = "abs")] static extern int WithInt(int number);
    [DllImport("libc", EntryPoint = "abs")] static extern int WithHandle(Number number);

    static double Best(Action<int> body) {
        const int count = 2000;
        double best = double.MaxValue;
        for (int round = 0; round < 2000; round++) {
            long start = Stopwatch.GetTimestamp();
            body(count);
            double ns = (Stopwatch.GetTimestamp() - start) * 1e9 / Stopwatch.Frequency / count;
            best = Math.Min(best, ns);
        }
        return best;
    }

    static void Main() {
        using (var handle = new Number(3)) {
            double plain = Best(count => { for (int i = 0; i < count; i++) WithInt(3); });
            double held = Best(count => { for (int i = 0; i < count; i++) WithHandle(handle); });
            Console.WriteLine(FormattableString.Invariant($"{plain} {held}"));
        }
    }
}
