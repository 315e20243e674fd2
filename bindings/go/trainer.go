package infini

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"example.org/infini/internal/native"
)

// Trainer changes a copy of a model's weights until it predicts what it reads; the model itself stays as it is. It may
// be used from any goroutine; calls take turns, so to look at a long training while it runs, run it in pieces or give it
// a context of WithProgress.
type Trainer struct {
	handle *handle
}

// TrainingReport is what a step saw; before the first one Step is 0 and the rest says nothing. A share of nothing is NaN.
type TrainingReport struct {
	Step            int64   `json:"step"`              // steps done so far
	Tokens          int64   `json:"tokens"`            // tokens read so far
	UnknownBytes    int64   `json:"unknown_bytes"`     // of this step's texts, without a token, left out or replaced
	Loss            float64 `json:"loss"`              // nats a predicted token, by weight
	Predictions     int64   `json:"predictions"`       // tokens predicted
	RecallAcross    float64 `json:"recall_across"`     // share of tokens right, of answers whose value only the memory holds
	AnswersAcross   int64   `json:"answers_across"`    // the number of those tokens
	ExactAcross     float64 `json:"exact_across"`      // share of those answers whose tokens are all right
	RecallInside    float64 `json:"recall_inside"`     // share of tokens right, of answers whose value local attention sees
	AnswersInside   int64   `json:"answers_inside"`    // the number of those tokens
	ExactInside     float64 `json:"exact_inside"`      // share of those answers whose tokens are all right
	Supervision     float64 `json:"supervision"`       // the loss of supervised attention
	GradientNorm    float64 `json:"gradient_norm"`     // before clipping; NaN: it was not finite, and nothing was changed
	RateFactor      float64 `json:"rate_factor"`       // of the schedule
	Segment         int     `json:"segment"`           // tokens of a segment
	Segments        int     `json:"segments"`          // segments of a sequence
	Seconds         float64 `json:"seconds"`           // how long the step took
	TokensPerSecond float64 `json:"tokens_per_second"` // read by the step
}

// TrainingEvaluation is what an evaluation found. A share of nothing is NaN.
type TrainingEvaluation struct {
	Loss          float64 `json:"loss"`           // these eight as in a TrainingReport
	Predictions   int64   `json:"predictions"`    //
	RecallAcross  float64 `json:"recall_across"`  //
	AnswersAcross int64   `json:"answers_across"` //
	ExactAcross   float64 `json:"exact_across"`   //
	RecallInside  float64 `json:"recall_inside"`  //
	AnswersInside int64   `json:"answers_inside"` //
	ExactInside   float64 `json:"exact_inside"`   //
	Segment       int     `json:"segment"`        // tokens of a segment
	Segments      int     `json:"segments"`       // segments of a sequence
	Sequences     int     `json:"sequences"`      // how many were read

	JSON string `json:"-"` // all of it, as the library wrote it
}

// TrainerInfo is the state of a trainer.
type TrainerInfo struct {
	Steps             int64          `json:"steps"`
	Tokens            int64          `json:"tokens"`             // read so far
	Parameters        int64          `json:"parameters"`         // of the model
	TrainedParameters int64          `json:"trained_parameters"` // of these
	Compute           string         `json:"compute"`
	Bytes             int64          `json:"bytes"` // of weights but those that stay in the model's file, gradients, optimizer and activations
	Segment           int            `json:"segment"`
	Segments          int            `json:"segments"`
	Rank              int            `json:"rank"`
	Ranks             int            `json:"ranks"`
	Gates             [][]float64    `json:"gates"`    // their weights, one list a layer
	Training          map[string]any `json:"training"` // every field of it

	JSON string `json:"-"` // all of it, as the library wrote it
}

// FoundHeads is which heads are retrieval heads.
type FoundHeads struct {
	Heads []struct { // those of the greatest weight first
		Layer      int     `json:"layer"`
		Head       int     `json:"head"`
		Weight     float64 `json:"weight"`
		NameWeight float64 `json:"name_weight"`
	} `json:"heads"`
	Answers   int64   `json:"answers"`   // tokens of answers whose value only the memory holds
	Recall    float64 `json:"recall"`    // share of them that full attention predicts
	Segment   int     `json:"segment"`   // tokens of a segment
	Segments  int     `json:"segments"`  // segments of a sequence
	Sequences int     `json:"sequences"` // how many were read
	Tokens    int64   `json:"tokens"`

	JSON string `json:"-"` // all of it, as the library wrote it
}

// TrainerSettings lists the fields of a description as NewTrainer takes it: a JSON array of {"name", "type", "default",
// "least" and "greatest", or "choices", "help"}; of an object "fields", or of each of its "types", are such arrays too.
func TrainerSettings() (string, error) { return text(native.Infini_trainer_settings_json) }

// NewTrainer makes a trainer, which changes a copy of this model's weights. descriptionJSON is an object: "training"
// (what is trained and how), "data" (where sequences come from), such as {"training": {"train": "lora"}, "data":
// {"type": "text", "files": ["novel.txt"]}}, "curriculum" and "evaluation". Only "data" must be there. TrainerSettings lists their
// fields. Options: "threads", and "compute", which overrides that of the description. Progress: stage "create", in
// matrices.
//
// Errors: InvalidArgument (the message names the field), State (the model has no weights, or no tokenizer where the data
// needs one), IO, Format (of a file of the data), UnknownOption, Cancelled.
func (m *Model) NewTrainer(ctx context.Context, descriptionJSON string, options Options) (*Trainer, error) {
	if err := noZero(descriptionJSON); err != nil {
		return nil, err
	}
	var trainer uintptr
	err := m.call(func(model uintptr) error {
		return options.withTask(ctx, func(o, task uintptr) error {
			return native.Infini_trainer_create(model, descriptionJSON, o, task, &trainer)
		})
	})
	if err != nil {
		return nil, err
	}
	t := &Trainer{handle: newHandle("trainer", trainer, native.Infini_trainer_free)}
	runtime.SetFinalizer(t, func(t *Trainer) { t.handle.close() })
	return t, nil
}

// Close cancels the call that runs, if any, and frees the trainer when it has returned. Closing again does nothing.
// A trainer that is not closed is freed some time after the last use of it.
func (t *Trainer) Close() error {
	t.handle.close()
	return nil
}

// Step does one step: it reads sequences of "tokens" tokens in all, computes the gradients and changes the weights. It
// returns what it saw.
//
// Errors: Cancelled; IO, Format (of a file of the data). The step has not happened, and the next one reads the same
// sequences.
func (t *Trainer) Step(ctx context.Context) (TrainingReport, error) {
	return t.train(ctx, native.Infini_trainer_step)
}

// Run does so many steps and returns what the last one saw. Progress: stage "train", in steps.
//
// Errors: Cancelled, IO, Format, as Step; the steps before are done, as Report tells, and the trainer may go on.
func (t *Trainer) Run(ctx context.Context, steps int64) (TrainingReport, error) {
	return t.train(ctx, func(trainer, task uintptr) error { return native.Infini_trainer_run(trainer, steps, task) })
}

func (t *Trainer) train(ctx context.Context, do func(trainer, task uintptr) error) (TrainingReport, error) {
	return reportOf(t.long(ctx, do, native.Infini_trainer_report_json))
}

// Report returns what the last step saw: before the first one, a report of 0 steps.
func (t *Trainer) Report() (TrainingReport, error) { return reportOf(t.ReportJSON()) }

// ReportJSON returns what the last step saw as the library wrote it, a JSON object: "step", "loss", ...; {} before the
// first.
func (t *Trainer) ReportJSON() (string, error) { return t.text(native.Infini_trainer_report_json) }

// Evaluate reads sequences of so many segments (0: as many as in training now) and says how well the model predicts
// them. It changes nothing. dataJSON says where they come from, as "data" in Model.NewTrainer. Progress: stage
// "evaluate", in sequences.
//
// Errors: those of Model.NewTrainer; Cancelled.
func (t *Trainer) Evaluate(ctx context.Context, dataJSON string, sequences, segments int) (TrainingEvaluation, error) {
	if err := readable(dataJSON, sequences, segments); err != nil {
		return evaluationOf("", err)
	}
	return evaluationOf(t.measure(ctx, func(trainer, task uintptr, b []byte, n *uint64) error {
		return native.Infini_trainer_evaluate_json(trainer, dataJSON, sequences, segments, task, b, n)
	}))
}

// FindHeads finds retrieval heads: it reads sequences of a task that has answers ("recall", "passkey") with full
// attention. It changes nothing. Progress: stage "find heads", in sequences.
//
// Errors: those of Model.NewTrainer, InvalidArgument too where no answer's value stands in an earlier segment; Cancelled.
func (t *Trainer) FindHeads(ctx context.Context, dataJSON string, sequences, segments int) (FoundHeads, error) {
	if err := readable(dataJSON, sequences, segments); err != nil {
		return FoundHeads{}, err
	}
	written, err := t.measure(ctx, func(trainer, task uintptr, b []byte, n *uint64) error {
		return native.Infini_trainer_find_heads_json(trainer, dataJSON, sequences, segments, task, b, n)
	})
	found := FoundHeads{JSON: written}
	return found, read(written, err, &found)
}

// FitHeads initialises heads by ridge regression over all that is drawn, before the first step: of a trainer of "retrieval"
// the "supervised" heads that have an offset, so that they retrieve the token at that offset of a value by the value's name,
// and the heads of one group together add so many nats to its logit; where "hand_on" is above 0, the "local_supervised" heads
// instead, so that they write a direction of its own for each name. Progress: stage "fit heads", in the steps that read all.
//
// Errors: InvalidArgument (no head has an offset, ...), Unsupported (heads of this model cannot be fitted), State (there was
// a step), Cancelled, IO, Format; the heads are as they were.
func (t *Trainer) FitHeads(ctx context.Context, nats float64) error {
	_, err := t.long(ctx, func(trainer, task uintptr) error {
		return native.Infini_trainer_fit_heads(trainer, nats, task)
	}, native.Infini_trainer_info_json)
	return err
}

// Info returns the trainer's state.
func (t *Trainer) Info() (info TrainerInfo, err error) {
	info.JSON, err = t.text(native.Infini_trainer_info_json)
	return info, read(info.JSON, err, &info)
}

// Save writes all that is needed to go on to a file, which is replaced whole or not at all. Progress: stage "save", in bytes.
//
// Errors: IO, NoSpace, Cancelled (what was there before is still there).
func (t *Trainer) Save(ctx context.Context, path string) error {
	return t.file(ctx, path, func(trainer, task uintptr) error { return native.Infini_trainer_save(trainer, path, task) })
}

// Restore goes on from where another trainer of the same model and description was saved: on the same build, processor
// and number of threads, the next steps are the same bit for bit. The last report stays that of this trainer.
//
// Errors: ModelMismatch (another model or description), IO, Format, Truncated, Checksum, VersionTooNew, Cancelled; then
// nothing has changed.
func (t *Trainer) Restore(ctx context.Context, path string) error {
	return t.file(ctx, path, func(trainer, task uintptr) error { return native.Infini_trainer_restore(trainer, path, task) })
}

// Write writes the trained model as a GGUF file, adapters merged, which Open opens. What was not trained keeps the bytes
// of the model's file; matrices that were are written as numberType: "f32", "f16" or "bf16". Progress: stage "save", in
// bytes of tensors.
//
// Errors: InvalidArgument (numberType is none of these), IO, NoSpace, Cancelled.
func (t *Trainer) Write(ctx context.Context, path, numberType string) error {
	if err := noZero(numberType); err != nil {
		return err
	}
	return t.file(ctx, path, func(trainer, task uintptr) error {
		return native.Infini_trainer_write(trainer, path, numberType, task)
	})
}

// WriteAdapter writes the adapters alone, as a GGUF file to be kept beside the model.
//
// Errors: State (no adapters are trained), IO, NoSpace, Cancelled.
func (t *Trainer) WriteAdapter(ctx context.Context, path string) error {
	return t.file(ctx, path, func(trainer, task uintptr) error {
		return native.Infini_trainer_write_adapter(trainer, path, task)
	})
}

// readable refuses what C would see as something else.
func readable(dataJSON string, sequences, segments int) error {
	if int(int32(sequences)) != sequences || int(int32(segments)) != segments {
		return &Error{Status: InvalidArgument, Message: fmt.Sprintf("sequences is %d, segments is %d", sequences, segments)}
	}
	return noZero(dataJSON)
}

// call runs do when its turn has come.
func (t *Trainer) call(do func(trainer uintptr) error) error {
	defer runtime.KeepAlive(t)
	return t.handle.inTurn(background, do)
}

// long runs a long call, which Close cancels, and returns in the same turn what it left.
func (t *Trainer) long(ctx context.Context, do func(trainer, task uintptr) error,
	result func(trainer uintptr, b []byte, n *uint64) error) (left string, err error) {
	defer runtime.KeepAlive(t)
	err = t.handle.work(ctx, func(trainer uintptr, w *work) error {
		err := w.do(func(task uintptr) error { return do(trainer, task) })
		if err == nil {
			left, err = text(func(b []byte, n *uint64) error { return result(trainer, b, n) })
		}
		return err
	})
	return
}

// measure runs a long call that writes its result itself: too small a buffer ends it before its work.
func (t *Trainer) measure(ctx context.Context, do func(trainer, task uintptr, b []byte, n *uint64) error) (result string, err error) {
	defer runtime.KeepAlive(t)
	err = t.handle.work(ctx, func(trainer uintptr, w *work) error {
		return w.do(func(task uintptr) (err error) {
			result, err = text(func(b []byte, n *uint64) error { return do(trainer, task, b, n) })
			return err
		})
	})
	return
}

func (t *Trainer) file(ctx context.Context, path string, do func(trainer, task uintptr) error) error {
	if err := noZero(path); err != nil {
		return err
	}
	defer runtime.KeepAlive(t)
	return t.handle.work(ctx, func(trainer uintptr, w *work) error {
		return w.do(func(task uintptr) error { return do(trainer, task) })
	})
}

func (t *Trainer) text(fill func(trainer uintptr, b []byte, n *uint64) error) (result string, err error) {
	err = t.call(func(trainer uintptr) (err error) {
		result, err = text(func(b []byte, n *uint64) error { return fill(trainer, b, n) })
		return err
	})
	return
}

// reportOf reads what the library wrote; null stays NaN.
func reportOf(written string, err error) (TrainingReport, error) {
	nan := math.NaN()
	r := TrainingReport{Loss: nan, RecallAcross: nan, ExactAcross: nan, RecallInside: nan, ExactInside: nan, GradientNorm: nan}
	return r, read(written, err, &r)
}

func evaluationOf(written string, err error) (TrainingEvaluation, error) {
	nan := math.NaN()
	e := TrainingEvaluation{Loss: nan, RecallAcross: nan, ExactAcross: nan, RecallInside: nan, ExactInside: nan, JSON: written}
	return e, read(written, err, &e)
}
