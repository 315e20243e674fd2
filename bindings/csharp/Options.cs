using System.Collections;

namespace Infini;

/// <summary>Values by name: <c>new Options { { "threads", 2 }, { "temperature", 0.8 }, { "stop", "\n" } }</c>.
/// <see cref="InfiniLibrary.DescribeOptions"/> lists the names. A method that is given options reads them and keeps
/// nothing; names and values are checked by it. One thread at a time.</summary>
public sealed class Options : IEnumerable<KeyValuePair<string, object>>
{
    private readonly Dictionary<string, object> values = [];

    /// <summary>Sets an integer, or a number of an option of type double.</summary>
    /// <param name="name">The option.</param>
    /// <param name="value">Its value.</param>
    public void Add(string name, long value) => values[name] = value;

    /// <summary>Sets a number.</summary>
    /// <param name="name">The option.</param>
    /// <param name="value">Its value.</param>
    public void Add(string name, double value) => values[name] = value;

    /// <summary>Sets a text.</summary>
    /// <param name="name">The option.</param>
    /// <param name="value">Its value.</param>
    public void Add(string name, string value) => values[name] = value ?? throw new ArgumentNullException(nameof(value));

    /// <summary>What was set: <see cref="long"/>, <see cref="double"/> and <see cref="string"/>.</summary>
    /// <returns>Names and values.</returns>
    public IEnumerator<KeyValuePair<string, object>> GetEnumerator() => values.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>Runs a call with options that may be null, in the library's form.</summary>
    internal static void With(Options? options, Action<OptionsHandle> call)
    {
        if (options is null)
        {
            call(OptionsHandle.None);
            return;
        }
        InfiniException.Check(Native.infini_options_new(out var handle));
        using (handle)
        {
            foreach (var (name, value) in options)
            {
                InfiniException.Check(value switch
                {
                    long number => Native.infini_options_set_int(handle, name, number),
                    double number => Native.infini_options_set_double(handle, name, number),
                    _ => Native.infini_options_set_string(handle, name, (string)value),
                });
            }
            call(handle);
        }
    }
}
