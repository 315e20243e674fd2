using System.Runtime.ExceptionServices;

namespace Infini;

/// <summary>Tells an <see cref="IProgress{T}"/> how far one call of this package has come, which may be several of the
/// library's: the pieces of one text.</summary>
internal sealed unsafe class Reporter : IDisposable
{
    private const int Period = 100; // milliseconds between two reports

    private readonly IProgress<WorkProgress> progress;
    private readonly bool pieces;
    private readonly long bytes; // of all pieces; 0: not known
    private readonly object one = new(); // thread at a time, but not the receiver's: it may wait for the call to end
    private readonly Timer timer;
    private TaskHandle? task; // of the library's call that runs
    private long before, size; // bytes of the pieces before it, and of its own
    private WorkProgress last, reported;
    private bool ended, reporting;
    private ExceptionDispatchInfo? failure;

    private Reporter(IProgress<WorkProgress> progress, bool pieces, long bytes)
    {
        (this.progress, this.pieces, this.bytes) = (progress, pieces, bytes);
        timer = new Timer(static reporter => ((Reporter)reporter!).Tick(), this, Period, Period);
    }

    /// <summary>Reports what the library says of one call.</summary>
    internal static Reporter? Of(IProgress<WorkProgress>? progress) => progress is null ? null : new(progress, false, 0);

    /// <summary>Reports the bytes of a text that is fed in pieces.</summary>
    internal static Reporter? OfPieces(IProgress<WorkProgress>? progress, long bytes) =>
        progress is null ? null : new(progress, true, bytes);

    /// <summary>Looks at a call's task until what it gives is disposed.</summary>
    internal Watching Watch(TaskHandle used)
    {
        lock (one)
        {
            ThrowFailure();
            task = used;
        }
        return new Watching(this);
    }

    internal readonly struct Watching(Reporter reporter) : IDisposable
    {
        public void Dispose()
        {
            lock (reporter.one)
            {
                reporter.Look();
                reporter.task = null;
            }
        }
    }

    /// <summary>The next call is of a piece of so many bytes, the one before has read its own.</summary>
    internal void NextPiece(int bytes)
    {
        lock (one)
        {
            before += size;
            size = bytes;
        }
    }

    /// <summary>Reports for the last time, that everything is done.</summary>
    internal void End()
    {
        lock (one)
        {
            if (pieces) Advance("feed", before + size);
            ended = true;
        }
        Report();
        ThrowFailure();
    }

    /// <summary>Throws what the receiver threw.</summary>
    internal void ThrowFailure() => failure?.Throw();

    public void Dispose()
    {
        timer.Dispose();
        lock (one) ended = true;
    }

    private void Tick()
    {
        lock (one)
        {
            if (ended || !Look()) return;
        }
        Report();
    }

    // Whether there is a call whose progress is known.
    private bool Look()
    {
        if (task is null) return false;
        long done, total;
        string stage;
        try
        {
            Native.infini_task_done(task, &done);
            Native.infini_task_total(task, &total);
            stage = Utf8.Text((buffer, capacity, size) => Native.infini_task_stage(task, buffer, capacity, size));
        }
        catch (ObjectDisposedException) // with the object that works
        {
            return false;
        }
        if (stage == "idle") return false;
        if (pieces) Advance(stage, before + (total > 0 ? (long)((double)size * done / total) : 0));
        else Advance(stage, done, total);
        return true;
    }

    private void Advance(string stage, long done, long total = 0)
    {
        if (pieces && bytes > 0) total = Math.Max(bytes, done); // a file may have grown
        last = new WorkProgress(stage, stage == last.Stage ? Math.Max(done, last.Done) : done, total);
    }

    // What is new while a thread reports is reported by it.
    private void Report()
    {
        lock (one)
        {
            if (reporting) return;
            reporting = true;
        }
        while (true)
        {
            WorkProgress now;
            lock (one)
            {
                if (failure is not null || last == reported)
                {
                    reporting = false;
                    return;
                }
                now = reported = last;
            }
            try
            {
                progress.Report(now);
            }
            catch (Exception e)
            {
                lock (one)
                {
                    failure = ExceptionDispatchInfo.Capture(e);
                    if (task is not null) Work.Cancel(task);
                }
            }
        }
    }
}
