using System.Text.Json;

namespace Infini;

/// <summary>Changes a copy of a model's weights until it predicts what it reads; the model itself stays as it is. It may be
/// called from any thread; calls take turns, so to look at a long training while it runs, run it in pieces or give it a
/// progress.</summary>
/// <remarks><see cref="Dispose"/> may be called at any time, from any thread and more than once: a call that runs is
/// cancelled, the last one to leave frees the trainer, later ones throw <see cref="ObjectDisposedException"/>. A trainer
/// that is never disposed is freed by the garbage collector, which does not see how much memory it takes.</remarks>
public sealed class Trainer : IDisposable
{
    private static readonly unsafe Writer
        TheReport = Native.infini_trainer_report_json, TheInfo = Native.infini_trainer_info_json;

    private readonly TrainerHandle handle;
    private readonly Turn turn = new();
    private readonly Work work = new();
    private volatile bool disposed;

    internal Trainer(TrainerHandle handle) => this.handle = handle;

    private TrainerHandle Handle
    {
        get
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            return handle;
        }
    }

    /// <summary>The fields of a description, as <see cref="Model.CreateTrainer"/> takes it.</summary>
    /// <returns>A JSON array of {"name", "type", "default", "least" and "greatest", or "choices", "help"}; of an object
    /// "fields", or of each of its "types", are such arrays too.</returns>
    public static unsafe string SettingsJson() =>
        Utf8.Text((buffer, capacity, size) => Native.infini_trainer_settings_json(buffer, capacity, size));

    /// <summary>Does one step: reads sequences of "tokens" tokens in all, computes the gradients and changes the
    /// weights.</summary>
    /// <param name="cancellation">Cancels between sequences.</param>
    /// <returns>What the step saw.</returns>
    /// <exception cref="InfiniException">Io, Format (of a file of the data); the step has not happened.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>; the step has not happened, and the
    /// next one reads the same sequences.</exception>
    public TrainingReport Step(CancellationToken cancellation = default) =>
        ReportOf(Long(Native.infini_trainer_step, TheReport, null, cancellation));

    /// <summary>Does so many steps.</summary>
    /// <param name="steps">How many; 0 or more.</param>
    /// <param name="progress">Hears, on other threads, of stage "train", in steps.</param>
    /// <param name="cancellation">Cancels between sequences; the steps before are done, as <see cref="Report"/> tells, and
    /// the trainer may go on.</param>
    /// <returns>What the last step saw.</returns>
    /// <exception cref="InfiniException">Io, Format (of a file of the data), InvalidArgument; the steps before are
    /// done.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public TrainingReport Run(long steps, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        ReportOf(Long((trainer, task) => Native.infini_trainer_run(trainer, steps, task), TheReport,
                      progress, cancellation));

    /// <summary>Does so many steps, on a thread of the pool.</summary>
    /// <param name="steps">As in <see cref="Run"/>.</param>
    /// <param name="progress">As in <see cref="Run"/>.</param>
    /// <param name="cancellation">As in <see cref="Run"/>.</param>
    /// <returns>What the last step saw.</returns>
    public async Task<TrainingReport> RunAsync(long steps, IProgress<WorkProgress>? progress = null,
                                               CancellationToken cancellation = default) =>
        ReportOf(await LongAsync((trainer, task) => Native.infini_trainer_run(trainer, steps, task),
                                 TheReport, progress, cancellation).ConfigureAwait(false));

    /// <summary>What the last step saw.</summary>
    /// <returns>Before the first one, a report of 0 steps.</returns>
    public TrainingReport Report() => ReportOf(ReportJson());

    /// <summary>What the last step saw, as the library wrote it.</summary>
    /// <returns>A JSON object: "step", "loss", ...; "{}" before the first.</returns>
    public string ReportJson() => Text(TheReport);

    /// <summary>Reads sequences and says how well the model predicts them. Changes nothing.</summary>
    /// <param name="dataJson">Where they come from: as "data" in <see cref="Model.CreateTrainer"/>.</param>
    /// <param name="sequences">How many.</param>
    /// <param name="segments">Of each; 0: as many as in training now.</param>
    /// <param name="progress">Hears, on other threads, of stage "evaluate", in sequences.</param>
    /// <param name="cancellation">Cancels between sequences.</param>
    /// <returns>What was found.</returns>
    /// <exception cref="InfiniException">InvalidArgument, State, Io, Format, as in <see cref="Model.CreateTrainer"/>.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public TrainingEvaluation Evaluate(string dataJson, int sequences, int segments = 0, IProgress<WorkProgress>? progress = null,
                                       CancellationToken cancellation = default) =>
        EvaluationOf(Long(Evaluating(dataJson, sequences, segments), progress, cancellation));

    /// <summary>Does what <see cref="Evaluate"/> does, on a thread of the pool.</summary>
    /// <param name="dataJson">As in <see cref="Evaluate"/>.</param>
    /// <param name="sequences">As in <see cref="Evaluate"/>.</param>
    /// <param name="segments">As in <see cref="Evaluate"/>.</param>
    /// <param name="progress">As in <see cref="Evaluate"/>.</param>
    /// <param name="cancellation">As in <see cref="Evaluate"/>.</param>
    /// <returns>What was found.</returns>
    public async Task<TrainingEvaluation> EvaluateAsync(string dataJson, int sequences, int segments = 0,
                                                        IProgress<WorkProgress>? progress = null,
                                                        CancellationToken cancellation = default) =>
        EvaluationOf(await LongAsync(Evaluating(dataJson, sequences, segments), progress, cancellation)
                         .ConfigureAwait(false));

    private static unsafe Measurer Evaluating(string dataJson, int sequences, int segments) =>
        (trainer, task, buffer, capacity, size) =>
            Native.infini_trainer_evaluate_json(trainer, dataJson, sequences, segments, task, buffer, capacity, size);

    /// <summary>Finds retrieval heads: reads sequences of a task with full attention. Changes nothing.</summary>
    /// <param name="dataJson">Where they come from: a task that has answers, "recall" or "passkey".</param>
    /// <param name="sequences">How many.</param>
    /// <param name="segments">Of each; 0: as many as in training now.</param>
    /// <param name="progress">Hears, on other threads, of stage "find heads", in sequences.</param>
    /// <param name="cancellation">Cancels between sequences.</param>
    /// <returns>A JSON object: "heads", a list of {"layer", "head", "weight", "name_weight"}, those that attend most to
    /// what is asked for first; "recall", "answers", ...</returns>
    /// <exception cref="InfiniException">InvalidArgument (no answer's value stands in an earlier segment, too), State, Io,
    /// Format, as in <see cref="Model.CreateTrainer"/>.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public unsafe string FindHeads(string dataJson, int sequences, int segments = 0,
                                   IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        Long((trainer, task, buffer, capacity, size) => Native.infini_trainer_find_heads_json(
                 trainer, dataJson, sequences, segments, task, buffer, capacity, size),
             progress, cancellation);

    /// <summary>Initialises heads by ridge regression over all that is drawn, before the first step: of a trainer of "retrieval"
    /// the "supervised" heads that have an offset, so that they retrieve the token at that offset of a value by the value's
    /// name and raise its logit; where "hand_on" is above 0, the "local_supervised" heads instead, so that they write a
    /// direction of its own for each name.</summary>
    /// <param name="nats">What the heads of one group together add to the logit of the token that they retrieve.</param>
    /// <param name="progress">Hears, on other threads, of stage "fit heads", in the steps that read all.</param>
    /// <param name="cancellation">Cancels between sequences; the heads are as they were.</param>
    /// <exception cref="InfiniException">InvalidArgument (no head has an offset, ...); Unsupported (heads of this model
    /// cannot be fitted); State (there was a step); Io, Format.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void FitHeads(double nats, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        Long((trainer, task) => Native.infini_trainer_fit_heads(trainer, nats, task), null, progress, cancellation);

    /// <summary>The trainer's state.</summary>
    /// <returns>A JSON object: "steps", "trained_parameters", "bytes", "gates", "training", ...</returns>
    public string InfoJson() => Text(TheInfo);

    /// <summary>Saves all that is needed to go on, to a file that is replaced whole or not at all.</summary>
    /// <param name="path">The file.</param>
    /// <param name="progress">Hears, on other threads, of stage "save", in bytes.</param>
    /// <param name="cancellation">Cancels.</param>
    /// <exception cref="InfiniException">Io, NoSpace; what was there before is still there.</exception>
    /// <exception cref="OperationCanceledException">What was there before is still there.</exception>
    public void Save(string path, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        InFile((trainer, task) => Native.infini_trainer_save(trainer, path, task), path, progress, cancellation);

    /// <summary>Goes on from where another trainer of the same model and description was saved: on the same build, processor
    /// and number of threads, the next steps are the same bit for bit. The last report stays that of this
    /// trainer.</summary>
    /// <param name="path">The file.</param>
    /// <param name="cancellation">Counts until restoring begins.</param>
    /// <exception cref="InfiniException">ModelMismatch (another model or description), Io, Format, Truncated, Checksum,
    /// Version; then nothing has changed.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Restore(string path, CancellationToken cancellation = default) =>
        InFile((trainer, task) => Native.infini_trainer_restore(trainer, path, task), path, null, cancellation);

    /// <summary>Writes the trained model as a GGUF file, adapters merged, which <see cref="Model.Open"/> opens. What was not
    /// trained keeps the bytes of the model's file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="type">Of the matrices that were trained: "f32", "f16" or "bf16".</param>
    /// <param name="progress">Hears, on other threads, of stage "save", in bytes of tensors.</param>
    /// <param name="cancellation">Cancels.</param>
    /// <exception cref="InfiniException">InvalidArgument (type is none of these), Io, NoSpace.</exception>
    /// <exception cref="OperationCanceledException">What was there before is still there.</exception>
    public void Write(string path, string type, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        InFile((trainer, task) => Native.infini_trainer_write(trainer, path, type, task), path, progress, cancellation);

    /// <summary>Writes the adapters alone, as a GGUF file to be kept beside the model.</summary>
    /// <param name="path">The file.</param>
    /// <param name="progress">As in <see cref="Write"/>.</param>
    /// <param name="cancellation">Cancels.</param>
    /// <exception cref="InfiniException">State (no adapters are trained), Io, NoSpace.</exception>
    /// <exception cref="OperationCanceledException">What was there before is still there.</exception>
    public void WriteAdapter(string path, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        InFile((trainer, task) => Native.infini_trainer_write_adapter(trainer, path, task), path, progress, cancellation);

    /// <summary>Cancels the call that runs, if any, and frees the trainer when it has returned. Disposing again does
    /// nothing.</summary>
    public void Dispose()
    {
        disposed = true;
        work.Dispose();
        handle.Dispose();
    }

    private unsafe delegate int Writer(TrainerHandle trainer, byte* buffer, nuint capacity, nuint* size);

    // A long call that writes what it measured: too small a buffer ends it before its work.
    private unsafe delegate int Measurer(TrainerHandle trainer, TaskHandle task, byte* buffer, nuint capacity, nuint* size);

    private void InFile(Func<TrainerHandle, TaskHandle, int> call, string path, IProgress<WorkProgress>? progress,
                        CancellationToken cancellation)
    {
        using var reporter = Reporter.Of(progress);
        using (turn.Take(cancellation)) work.Run(task => call(Handle, task), reporter, cancellation, path);
        reporter?.End();
    }

    private string Long(Func<TrainerHandle, TaskHandle, int> call, Writer? left, IProgress<WorkProgress>? progress,
                        CancellationToken cancellation) =>
        Long((reporter, token) => InTurn(call, left, reporter, token), progress, cancellation);

    private string Long(Measurer call, IProgress<WorkProgress>? progress, CancellationToken cancellation) =>
        Long((reporter, token) => InTurn(call, reporter, token), progress, cancellation);

    private string Long(Func<Reporter?, CancellationToken, string> inTurn, IProgress<WorkProgress>? progress,
                        CancellationToken cancellation)
    {
        using var reporter = Reporter.Of(progress);
        string json;
        using (turn.Take(cancellation)) json = inTurn(reporter, cancellation);
        reporter?.End();
        return json;
    }

    private Task<string> LongAsync(Func<TrainerHandle, TaskHandle, int> call, Writer left, IProgress<WorkProgress>? progress,
                                   CancellationToken cancellation) =>
        LongAsync((reporter, token) => InTurn(call, left, reporter, token), progress, cancellation);

    private Task<string> LongAsync(Measurer call, IProgress<WorkProgress>? progress, CancellationToken cancellation) =>
        LongAsync((reporter, token) => InTurn(call, reporter, token), progress, cancellation);

    // No thread waits for the turn.
    private async Task<string> LongAsync(Func<Reporter?, CancellationToken, string> inTurn, IProgress<WorkProgress>? progress,
                                         CancellationToken cancellation)
    {
        using var reporter = Reporter.Of(progress);
        string json;
        using (await turn.TakeAsync(cancellation).ConfigureAwait(false))
            json = await Task.Run(() => inTurn(reporter, cancellation), cancellation).ConfigureAwait(false);
        reporter?.End();
        return json;
    }

    // What the call left in the trainer, as JSON, before another has its turn.
    private unsafe string InTurn(Func<TrainerHandle, TaskHandle, int> call, Writer? left, Reporter? reporter,
                                 CancellationToken cancellation)
    {
        work.Run(task => call(Handle, task), reporter, cancellation);
        return left is null ? "" : Utf8.Text((buffer, capacity, size) => left(Handle, buffer, capacity, size));
    }

    // What the call measured.
    private unsafe string InTurn(Measurer call, Reporter? reporter, CancellationToken cancellation)
    {
        string json = "";
        work.Run(task =>
        {
            json = Utf8.Text((buffer, capacity, size) => call(Handle, task, buffer, capacity, size));
            return 0;
        }, reporter, cancellation);
        return json;
    }

    private unsafe string Text(Writer write)
    {
        using (turn.Take()) return Utf8.Text((buffer, capacity, size) => write(Handle, buffer, capacity, size));
    }

    private static TrainingReport ReportOf(string json) => JsonSerializer.Deserialize(json, LibraryJson.Default.TrainingReport);

    private static TrainingEvaluation EvaluationOf(string json) =>
        JsonSerializer.Deserialize(json, LibraryJson.Default.TrainingEvaluation) with { Json = json };
}
