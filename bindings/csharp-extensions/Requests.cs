using System.Text;
using System.Text.Json;
using Microsoft.Extensions.AI;

namespace Infini.Extensions.AI;

using ChatMessage = Microsoft.Extensions.AI.ChatMessage;

/// <summary>What a call asks for, as the library reads it.</summary>
internal static class Requests
{
    // All that a call may set, at its default, so that a conversation's session keeps nothing of an earlier call.
    private static readonly (string Name, object Default)[] settings = InfiniLibrary.DescribeOptions()
        .Where(option => option.Scope is "generation" or "text" && option.Name != "seed")
        .Select(option => (option.Name, ValueOf(option.Default)!)).ToArray();

    /// <summary>Checks what cannot be ignored, and puts options of a call over those of its client.</summary>
    /// <param name="client">The client, for <see cref="ChatOptions.RawRepresentationFactory"/>.</param>
    /// <param name="defaults">Options of the client.</param>
    /// <param name="options">Options of the call.</param>
    /// <param name="begins">Whether a stream begins, which wants a seed; one that goes on has its generator.</param>
    public static InfiniSessionOptions Settings(IChatClient client, InfiniSessionOptions defaults, ChatOptions? options,
                                                bool begins)
    {
        if (options?.ContinuationToken is not null)
            throw new NotSupportedException("infini: no background response goes on by a ContinuationToken");
        if (options?.ToolMode is RequiredChatToolMode)
            throw new NotSupportedException("infini: the model calls no tools, but ToolMode requires that it does");
        if (options?.MaxOutputTokens is { } most) ArgumentOutOfRangeException.ThrowIfNegative(most, nameof(options));

        var set = new InfiniSessionOptions();
        foreach (var (name, value) in settings) set[name] = value;
        if (begins) set.Seed = Random.Shared.NextInt64();
        foreach (var (name, value) in defaults.Values)
            if (begins || name != "seed") set[name] = value;
        if (options is null) return set;

        foreach (var (name, value) in options.AdditionalProperties ?? [])
            if ((name == "seed" || settings.Any(setting => setting.Name == name)) && value is not null)
                set[name] = value is JsonElement json ? ValueOf(json) : value;
        if (options.MaxOutputTokens is { } tokens) set.MaxTokens = tokens;
        if (options.Temperature is { } temperature) set.Temperature = temperature;
        if (options.TopP is { } share) set.TopP = share;
        if (options.TopK is { } likeliest) set.TopK = likeliest;
        if (options.PresencePenalty is { } presence) set.PresencePenalty = presence;
        if (options.FrequencyPenalty is { } frequency) set.FrequencyPenalty = frequency;
        if (options.Seed is { } seed) set.Seed = seed & long.MaxValue;
        if (options.StopSequences is { } stop) set.Stop = [.. stop];
        if (options.RawRepresentationFactory?.Invoke(client) is InfiniSessionOptions raw)
            foreach (var (name, value) in raw.Values) set[name] = value;
        return set;
    }

    /// <summary>Messages as the library's, with the call's instructions before those that begin a stream.</summary>
    public static List<Infini.ChatMessage> Messages(IEnumerable<ChatMessage> messages, ChatOptions? options,
                                                    bool begins)
    {
        var list = messages.Select(message => new Infini.ChatMessage(message.Role.Value, TextOf(message))).ToList();
        if (list.Count == 0) throw new ArgumentException("there is no message", nameof(messages));
        if (begins && !string.IsNullOrEmpty(options?.Instructions))
            list.Insert(0, Infini.ChatMessage.System(options.Instructions));
        return list;
    }

    private static string TextOf(ChatMessage message)
    {
        var text = new StringBuilder();
        foreach (var content in message.Contents)
        {
            switch (content)
            {
                case TextContent words:
                    text.Append(words.Text);
                    break;
                case TextReasoningContent or UsageContent: // of an answer that is given back
                    break;
                default:
                    throw new NotSupportedException($"infini: the model reads text, not {content.GetType().Name}");
            }
        }
        return text.ToString();
    }

    private static object? ValueOf(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Number => value.TryGetInt64(out long whole) ? (object)whole : value.GetDouble(),
        JsonValueKind.True or JsonValueKind.False => value.GetBoolean(),
        JsonValueKind.Array => value.EnumerateArray().Select(text => text.GetString()!).ToArray(),
        _ => value.GetString(),
    };
}
