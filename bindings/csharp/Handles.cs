using Microsoft.Win32.SafeHandles;

namespace Infini;

// Each owns one native object. A call keeps its handle alive; the last one to leave after Dispose frees the object; what
// is never disposed is freed by the garbage collector. None stands for NULL.

internal sealed class ModelHandle() : SafeHandleZeroOrMinusOneIsInvalid(true)
{
    protected override bool ReleaseHandle()
    {
        Native.infini_model_release(handle);
        return true;
    }
}

internal sealed class SessionHandle() : SafeHandleZeroOrMinusOneIsInvalid(true)
{
    protected override bool ReleaseHandle()
    {
        Native.infini_session_release(handle);
        return true;
    }
}

internal sealed class OptionsHandle() : SafeHandleZeroOrMinusOneIsInvalid(true)
{
    internal static readonly OptionsHandle None = new();

    protected override bool ReleaseHandle()
    {
        Native.infini_options_release(handle);
        return true;
    }
}

internal sealed class TaskHandle() : SafeHandleZeroOrMinusOneIsInvalid(true)
{
    internal static readonly TaskHandle None = new();

    protected override bool ReleaseHandle()
    {
        Native.infini_task_release(handle);
        return true;
    }
}

internal sealed class TextStreamHandle() : SafeHandleZeroOrMinusOneIsInvalid(true)
{
    protected override bool ReleaseHandle()
    {
        Native.infini_text_stream_release(handle);
        return true;
    }
}

internal sealed class TrainerHandle() : SafeHandleZeroOrMinusOneIsInvalid(true)
{
    protected override bool ReleaseHandle()
    {
        Native.infini_trainer_release(handle);
        return true;
    }
}

internal sealed class AdaptationHandle() : SafeHandleZeroOrMinusOneIsInvalid(true)
{
    protected override bool ReleaseHandle()
    {
        Native.infini_adaptation_release(handle);
        return true;
    }
}

/// <summary>Holds its sessions' handles too, so that a session may be disposed while a batch has it.</summary>
internal sealed class BatchHandle() : SafeHandleZeroOrMinusOneIsInvalid(true)
{
    private readonly List<SessionHandle> held = [];

    internal void Hold(SessionHandle session)
    {
        lock (held)
        {
            ObjectDisposedException.ThrowIf(IsClosed, this);
            bool added = false;
            session.DangerousAddRef(ref added);
            held.Add(session);
        }
    }

    internal void LetGo(SessionHandle session)
    {
        lock (held)
        {
            if (held.Remove(session)) session.DangerousRelease();
        }
    }

    protected override bool ReleaseHandle()
    {
        Native.infini_batch_release(handle);
        lock (held)
        {
            foreach (var session in held) session.DangerousRelease();
            held.Clear();
        }
        return true;
    }
}
