// OpenAI's own client for .NET, and Microsoft.Extensions.AI over it, against a service: ADDRESS TOKEN
using System.ClientModel;
using System.ClientModel.Primitives;
using Microsoft.Extensions.AI;
using OpenAI;
using OpenAI.Chat;
using ChatFinishReason = OpenAI.Chat.ChatFinishReason;
using ChatMessage = OpenAI.Chat.ChatMessage;

var options = new OpenAIClientOptions { Endpoint = new Uri($"http://{args[0]}/v1"), RetryPolicy = new ClientRetryPolicy(0) };
var client = new OpenAIClient(new ApiKeyCredential(args[1]), options);
string model = client.GetOpenAIModelClient().GetModels().Value.Single().Id;
var chat = client.GetChatClient(model);
ChatMessage[] messages = [new SystemChatMessage("Be brief."), new UserChatMessage("Who is Lily?")];
var asked = new ChatCompletionOptions { Temperature = 0, MaxOutputTokenCount = 30 };

ChatCompletion whole = chat.CompleteChat(messages, asked);
string text = whole.Content[0].Text;
Check(text != "" && whole.Role == ChatMessageRole.Assistant && whole.FinishReason is ChatFinishReason.Length or ChatFinishReason.Stop, "chat");
Check(whole.Usage.TotalTokenCount == whole.Usage.InputTokenCount + whole.Usage.OutputTokenCount, "usage");
string streamed = "";
await foreach (var part in chat.CompleteChatStreamingAsync(messages, asked))
    streamed += string.Concat(part.ContentUpdate.Select(piece => piece.Text));
Check(streamed == text, "stream");
string stop = text.Substring(5, 4);
ChatCompletion cut = chat.CompleteChat(messages, new ChatCompletionOptions { Temperature = 0, MaxOutputTokenCount = 30, StopSequences = { stop } });
Check(cut.Content[0].Text == text[..text.IndexOf(stop, StringComparison.Ordinal)] && cut.FinishReason == ChatFinishReason.Stop, "stop");

var embeddings = client.GetEmbeddingClient(model).GenerateEmbeddings(["Lily has a dog.", "The sun is hot."]).Value;
Check(embeddings.Count == 2 && embeddings[0].ToFloats().Length > 10, "embeddings");
IEmbeddingGenerator<string, Embedding<float>> generator = client.GetEmbeddingClient(model).AsIEmbeddingGenerator();
var vector = await generator.GenerateVectorAsync("Lily has a dog.");
Check(vector.Span.SequenceEqual(embeddings[0].ToFloats().Span), "embeddings of Microsoft.Extensions.AI");

try
{
    chat.CompleteChat(messages, new ChatCompletionOptions { Temperature = -1 });
    Check(false, "nothing is refused");
}
catch (ClientResultException e)
{
    Check(e.Status == 400 && e.Message.Contains("temperature"), e.Message);
}
try
{
    new OpenAIClient(new ApiKeyCredential("wrong"), options).GetChatClient(model).CompleteChat(messages);
    Check(false, "a wrong token is taken");
}
catch (ClientResultException e)
{
    Check(e.Status == 401, e.Message);
}

IChatClient general = chat.AsIChatClient();
var reply = await general.GetResponseAsync("Who is Lily?", new ChatOptions { Temperature = 0, MaxOutputTokens = 20 });
Check(reply.Text != "" && reply.Usage?.OutputTokenCount > 0, "Microsoft.Extensions.AI");
using var leaving = new CancellationTokenSource();
int pieces = 0;
try
{
    await foreach (var _ in general.GetStreamingResponseAsync("Who?", new ChatOptions { MaxOutputTokens = 1 << 30 }, leaving.Token))
    {
        if (++pieces == 5) leaving.Cancel();
    }
}
catch (OperationCanceledException)
{
    // as asked
}
Check(pieces is >= 1 and < 1000, "cancel");

static void Check(bool right, string what)
{
    if (!right) throw new InvalidOperationException(what);
}
