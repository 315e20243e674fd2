namespace Infini;

/// <summary>How far a call has come.</summary>
/// <param name="Stage">What it does: "open", "feed", "train", ...</param>
/// <param name="Done">In matrices, tokens, bytes, sequences or steps, as the call's description says.</param>
/// <param name="Total">The same; 0 where it is not known.</param>
public readonly record struct Progress(string Stage, long Done, long Total);

/// <summary>Runs long calls so that a token cancels them and their progress is reported.</summary>
internal static unsafe class Work
{
    private const int Period = 100; // milliseconds between two reports

    // `disposal` cancels as `cancellation` does, but its caller sees the library's own error.
    internal static void Run(Func<TaskHandle, int> call, IProgress<Progress>? progress, CancellationToken cancellation,
                             CancellationToken disposal = default)
    {
        cancellation.ThrowIfCancellationRequested();
        if (progress is null && !cancellation.CanBeCanceled && !disposal.CanBeCanceled)
        {
            InfiniException.Check(call(TaskHandle.None));
            return;
        }
        InfiniException.Check(Native.infini_task_new(out var task));
        using (task)
        {
            try
            {
                using var registration = cancellation.Register(() => Native.infini_task_cancel(task));
                using var disposing = disposal.Register(() => Native.infini_task_cancel(task));
                using var timer = progress is null ? null : new Timer(_ => Report(task, progress), null, Period, Period);
                InfiniException.Check(call(task));
            }
            catch (InfiniException e) when (e.Status == Status.Cancelled && cancellation.IsCancellationRequested)
            {
                throw new OperationCanceledException(e.Message, e, cancellation);
            }
            if (progress is not null) Report(task, progress);
        }
    }

    private static void Report(TaskHandle task, IProgress<Progress> progress)
    {
        try
        {
            long done, total;
            Native.infini_task_done(task, &done);
            Native.infini_task_total(task, &total);
            string stage = Utf8.Text((buffer, capacity, size) => Native.infini_task_stage(task, buffer, capacity, size));
            progress.Report(new Progress(stage, done, total));
        }
        catch (ObjectDisposedException)
        {
            // the call has returned
        }
    }
}
