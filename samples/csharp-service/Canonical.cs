using System.Text;
using System.Text.Json;

/// <summary>The one form of what a message says, which the services in all languages digest, however a client has
/// written its JSON.</summary>
internal static class Canonical
{
    internal static string Of(JsonElement content)
    {
        if (content.ValueKind is JsonValueKind.Undefined or JsonValueKind.Null) return "n";
        if (content.ValueKind == JsonValueKind.String) return "s" + content.GetString();
        var text = new StringBuilder("j");
        Write(content, text);
        return text.ToString();
    }

    private static void Write(JsonElement value, StringBuilder to)
    {
        string between = "";
        switch (value.ValueKind)
        {
            case JsonValueKind.Array:
                to.Append('[');
                foreach (var one in value.EnumerateArray())
                {
                    to.Append(between);
                    Write(one, to);
                    between = ",";
                }
                to.Append(']');
                break;
            case JsonValueKind.Object:
                to.Append('{');
                foreach (var key in value.EnumerateObject())
                {
                    to.Append(between);
                    Quote(key.Name, to);
                    to.Append(':');
                    Write(key.Value, to);
                    between = ",";
                }
                to.Append('}');
                break;
            case JsonValueKind.String:
                Quote(value.GetString()!, to);
                break;
            default:
                to.Append(value.GetRawText());
                break;
        }
    }

    private static void Quote(string text, StringBuilder to)
    {
        to.Append('"');
        foreach (char c in text)
        {
            if (c is '"' or '\\') to.Append('\\').Append(c);
            else if (c < ' ') to.Append($"\\u{(int)c:x4}");
            else to.Append(c);
        }
        to.Append('"');
    }
}
