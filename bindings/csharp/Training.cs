using System.Text.Json.Serialization;

namespace Infini;

/// <summary>What a step of a <see cref="Trainer"/> saw; before the first one <c>Step</c> is 0 and the rest says
/// nothing. A share of nothing is null.</summary>
/// <param name="Step">Steps done so far.</param>
/// <param name="Tokens">Tokens read so far.</param>
/// <param name="UnknownBytes">Of this step's texts, what the vocabulary has no token for, left out or replaced.</param>
/// <param name="Loss">Nats a predicted token, by weight; null where none was.</param>
/// <param name="Predictions">Tokens predicted.</param>
/// <param name="RecallAcross">Share of tokens right, of answers whose value only the memory holds.</param>
/// <param name="AnswersAcross">The number of those tokens.</param>
/// <param name="ExactAcross">Share of those answers whose tokens are all right.</param>
/// <param name="RecallInside">Share of tokens right, of answers whose value local attention sees.</param>
/// <param name="AnswersInside">The number of those tokens.</param>
/// <param name="ExactInside">Share of those answers whose tokens are all right.</param>
/// <param name="Supervision">The loss of supervised attention.</param>
/// <param name="GradientNorm">Before clipping; null where it was not finite, and nothing was changed.</param>
/// <param name="RateFactor">Of the schedule.</param>
/// <param name="Segment">Tokens of a segment.</param>
/// <param name="Segments">Segments of a sequence.</param>
/// <param name="Seconds">How long the step took.</param>
/// <param name="TokensPerSecond">Read by the step.</param>
[method: JsonConstructor]
public readonly record struct TrainingReport(
    long Step, long Tokens, long UnknownBytes, double? Loss, long Predictions, double? RecallAcross, long AnswersAcross, double? ExactAcross,
    double? RecallInside, long AnswersInside, double? ExactInside, double Supervision, double? GradientNorm, double RateFactor,
    int Segment, int Segments, double Seconds, double TokensPerSecond);

/// <summary>What an evaluation of a <see cref="Trainer"/> found. A share of nothing is null.</summary>
/// <param name="Loss">As in <see cref="TrainingReport"/>.</param>
/// <param name="Predictions">As in <see cref="TrainingReport"/>.</param>
/// <param name="RecallAcross">As in <see cref="TrainingReport"/>.</param>
/// <param name="AnswersAcross">As in <see cref="TrainingReport"/>.</param>
/// <param name="ExactAcross">As in <see cref="TrainingReport"/>.</param>
/// <param name="RecallInside">As in <see cref="TrainingReport"/>.</param>
/// <param name="AnswersInside">As in <see cref="TrainingReport"/>.</param>
/// <param name="ExactInside">As in <see cref="TrainingReport"/>.</param>
/// <param name="Segment">Tokens of a segment.</param>
/// <param name="Segments">Segments of a sequence.</param>
/// <param name="Sequences">How many were read.</param>
[method: JsonConstructor]
public readonly record struct TrainingEvaluation(
    double? Loss, long Predictions, double? RecallAcross, long AnswersAcross, double? ExactAcross, double? RecallInside,
    long AnswersInside, double? ExactInside, int Segment, int Segments, int Sequences)
{
    /// <summary>All of it, as the library wrote it.</summary>
    [JsonIgnore] public string Json { get; init; } = "";
}
