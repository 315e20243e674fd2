namespace Infini;

/// <summary>How far a call has come: what an <see cref="IProgress{T}"/> of a long call hears, on other threads, some ten
/// times a second and at the end. It never goes back during a call. What the receiver throws cancels the call and comes out
/// of it.</summary>
/// <param name="Stage">What the call does: "open", "feed", "train", ...</param>
/// <param name="Done">In matrices, tokens, bytes, sequences or steps, as the call's description says.</param>
/// <param name="Total">The same; 0 where it is not known.</param>
public readonly record struct WorkProgress(string Stage, long Done, long Total)
{
    /// <summary>The part that is done, from 0 to 1; null where the total is not known.</summary>
    public double? Fraction => Total > 0 ? (double)Done / Total : null;
}

/// <summary>Whose turn it is to use an object, of which the library allows one call at a time.</summary>
internal sealed class Turn
{
    private readonly SemaphoreSlim free = new(1, 1);

    internal Holder Take(CancellationToken cancellation = default)
    {
        free.Wait(cancellation);
        return new Holder(free);
    }

    internal async ValueTask<Holder> TakeAsync(CancellationToken cancellation)
    {
        await free.WaitAsync(cancellation).ConfigureAwait(false);
        return new Holder(free);
    }

    internal readonly struct Holder(SemaphoreSlim taken) : IDisposable
    {
        public void Dispose() => taken.Release();
    }
}

/// <summary>Runs the calls of one object, one at a time, so that a token cancels them and their progress is reported. Disposing,
/// from any thread, cancels the call that runs or, if none does, the next one, for which it is too late to see that its object is
/// disposed.</summary>
internal sealed class Work : IDisposable
{
    private readonly object swap = new();
    private TaskHandle task = NewTask();
    private bool stopped;

    internal int Run(Func<TaskHandle, int> call, Reporter? reporter = null, CancellationToken cancellation = default,
                     string? path = null)
    {
        cancellation.ThrowIfCancellationRequested();
        if (reporter is not null) Renew(); // or it would report what the last call did
        var used = task;
        int status;
        try
        {
            using var registration = cancellation.UnsafeRegister(static used => Cancel((TaskHandle)used!), used);
            using var watch = reporter?.Watch(used);
            status = InfiniException.Check(call(used), path);
        }
        catch (InfiniException e) when (e.Status == Status.Cancelled)
        {
            reporter?.ThrowFailure();
            if (cancellation.IsCancellationRequested) throw new OperationCanceledException(e.Message, e, cancellation);
            throw;
        }
        finally
        {
            // A cancel that came too late for this call must not hit the next.
            if (cancellation.IsCancellationRequested || reporter is not null) Renew();
        }
        return status;
    }

    /// <summary>Runs a call that shares its object with others.</summary>
    internal static void RunOnce(Func<TaskHandle, int> call, IProgress<WorkProgress>? progress, CancellationToken cancellation,
                                 string? path)
    {
        using var work = new Work();
        using var reporter = Reporter.Of(progress);
        work.Run(call, reporter, cancellation, path);
        reporter?.End();
    }

    public void Dispose()
    {
        lock (swap)
        {
            if (stopped) return;
            stopped = true;
            Cancel(task);
            task.Dispose(); // when the call has returned
        }
    }

    internal static void Cancel(TaskHandle task)
    {
        try
        {
            Native.infini_task_cancel(task);
        }
        catch (ObjectDisposedException)
        {
            // the call has returned
        }
    }

    private void Renew()
    {
        lock (swap)
        {
            if (stopped) return;
            task.Dispose();
            task = NewTask();
        }
    }

    private static TaskHandle NewTask()
    {
        InfiniException.Check(Native.infini_task_create(out var task));
        return task;
    }
}
