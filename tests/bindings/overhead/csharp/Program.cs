// Prints how many tokens a second stories260K generates, as overhead.c does.
using System.Diagnostics;
using System.Globalization;
using Infini;

using var model = Model.Open(args[0], new() { Compute = "f32", Threads = 1 });
using var session = model.CreateSession(new() { Threads = 1, Temperature = 0, MaxTokens = 200 });
double best = 0;
for (var total = Stopwatch.StartNew(); total.Elapsed.TotalSeconds < double.Parse(args[1], CultureInfo.InvariantCulture);)
{
    session.Reset();
    session.Feed("Once upon a time");
    long before = session.Position;
    var round = Stopwatch.StartNew();
    while (session.NextText() is not null) continue;
    double seconds = round.Elapsed.TotalSeconds;
    best = Math.Max(best, (session.Position - before) / seconds);
}
Console.WriteLine(best.ToString("F0", CultureInfo.InvariantCulture));
