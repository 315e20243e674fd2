namespace Infini;

/// <summary>Teaches a plain model to use its memory, in phases. It may be called from any thread; calls take turns.</summary>
/// <remarks><see cref="Dispose"/> may be called at any time, from any thread and more than once: a call that runs is
/// cancelled, the last one to leave frees the adaptation, later ones throw <see cref="ObjectDisposedException"/>.</remarks>
public sealed class Adaptation : IDisposable
{
    private static readonly unsafe Writer TheReport = Native.infini_adaptation_report_json,
                                          TheInfo = Native.infini_adaptation_info_json;

    private readonly AdaptationHandle handle;
    private readonly Turn turn = new();
    private readonly Work work = new();
    private volatile bool disposed;

    private Adaptation(AdaptationHandle handle) => this.handle = handle;

    private AdaptationHandle Handle
    {
        get
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            return handle;
        }
    }

    /// <summary>Makes an adaptation, or goes on with one of which files were kept.</summary>
    /// <param name="path">The plain model, a GGUF file.</param>
    /// <param name="settingsJson">A JSON object of the fields that <see cref="SettingsJson"/> lists; "texts" must be
    /// there.</param>
    /// <param name="options">As in <see cref="Model.Open"/>.</param>
    /// <param name="progress">Hears, on other threads, of stage "open".</param>
    /// <param name="cancellation">Cancels.</param>
    /// <returns>The adaptation, which the caller disposes.</returns>
    /// <exception cref="InfiniException">InvalidArgument (the message names the field), ModelMismatch (what was kept was begun
    /// otherwise), Format (it is damaged), and as in <see cref="Model.Open"/>.</exception>
    public static Adaptation Open(string path, string settingsJson, InfiniModelOptions? options = null,
                                  IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        InfiniLibrary.RequireSameInterface();
        AdaptationHandle? adaptation = null;
        InfiniOptions.With(options, o => Work.RunOnce(
            task => Native.infini_adaptation_create(path, settingsJson, o, task, out adaptation), progress, cancellation, path));
        return new Adaptation(adaptation!);
    }

    /// <summary>The settings there are.</summary>
    /// <returns>A JSON array of {"name", "type", "default", "least" and "greatest", or "choices", "help"}.</returns>
    public static unsafe string SettingsJson() =>
        Utf8.Text((buffer, capacity, size) => Native.infini_adaptation_settings_json(buffer, capacity, size));

    /// <summary>Does what comes next: a search, a measurement, or a training step.</summary>
    /// <param name="cancellation">Cancels; it has not happened then, and may be made again.</param>
    /// <returns>Whether there was anything left to do.</returns>
    /// <exception cref="InfiniException">State (gradients are not finite again and again), Io, NoSpace, Format.</exception>
    public bool Step(CancellationToken cancellation = default)
    {
        bool more = true;
        Long((adaptation, task) =>
        {
            int status = Native.infini_adaptation_step(adaptation, task);
            more = status != InfiniException.End;
            return status;
        }, null, cancellation);
        return more;
    }

    /// <summary>Does all that is left.</summary>
    /// <param name="progress">Hears, on other threads, of stages "find heads", "evaluate", "feed", "fit heads", "train".</param>
    /// <param name="cancellation">Cancels; the steps before are done, and it may go on.</param>
    /// <exception cref="InfiniException">As in <see cref="Step"/>.</exception>
    public void Run(IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        Long(Native.infini_adaptation_run, progress, cancellation);

    /// <summary>Does all that is left, on a thread of the pool.</summary>
    /// <param name="progress">As in <see cref="Run"/>.</param>
    /// <param name="cancellation">As in <see cref="Run"/>.</param>
    /// <returns>What ends with it.</returns>
    public Task RunAsync(IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        Task.Run(() => Run(progress, cancellation), cancellation);

    /// <summary>What the last step did.</summary>
    /// <returns>A JSON object: "phase", and of a training step "step", "loss", ...; "{}" before the first.</returns>
    public string ReportJson() => Text(TheReport);

    /// <summary>How far it has come, and what was found and measured.</summary>
    /// <returns>A JSON object: "phases", "complete", "before", "after", ...</returns>
    public string InfoJson() => Text(TheInfo);

    /// <summary>Saves what it goes on from, in the files of "checkpoint".</summary>
    /// <param name="progress">Hears, on other threads, of stage "save", in bytes of tensors.</param>
    /// <param name="cancellation">Cancels.</param>
    /// <exception cref="InfiniException">Io, NoSpace.</exception>
    /// <exception cref="OperationCanceledException">The files of before are still there.</exception>
    public void Save(IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        Long(Native.infini_adaptation_save, progress, cancellation);

    /// <summary>Removes these files.</summary>
    public void Discard() => Call(Native.infini_adaptation_discard);

    /// <summary>Writes the adapted model as a GGUF file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="progress">Hears, on other threads, of stage "save", in bytes of tensors.</param>
    /// <param name="cancellation">Cancels.</param>
    /// <exception cref="InfiniException">State (training is not over yet), Io, NoSpace.</exception>
    /// <exception cref="OperationCanceledException">What was there before is still there.</exception>
    public void Write(string path, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        Long((adaptation, task) => Native.infini_adaptation_write(adaptation, path, task), progress, cancellation, path);

    /// <summary>Cancels the call that runs, if any, and frees the adaptation when it has returned. Disposing again does
    /// nothing.</summary>
    public void Dispose()
    {
        disposed = true;
        work.Dispose();
        handle.Dispose();
    }

    private unsafe delegate int Writer(AdaptationHandle adaptation, byte* buffer, nuint capacity, nuint* size);

    private void Call(Func<AdaptationHandle, int> call)
    {
        using (turn.Take()) InfiniException.Check(call(Handle));
    }

    private void Long(Func<AdaptationHandle, TaskHandle, int> call, IProgress<WorkProgress>? progress,
                      CancellationToken cancellation, string? path = null)
    {
        using var reporter = Reporter.Of(progress);
        using (turn.Take(cancellation)) work.Run(task => call(Handle, task), reporter, cancellation, path);
        reporter?.End();
    }

    private unsafe string Text(Writer write)
    {
        using (turn.Take()) return Utf8.Text((buffer, capacity, size) => write(Handle, buffer, capacity, size));
    }
}
