package tests

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.org/infini"
)

const random = `{"type": "random"}`

func tiny(t testing.TB, layers int) *infini.Model {
	t.Helper()
	model := must(infini.Create(background, fmt.Sprintf(`{"layers": %d, "width": 32, "heads": 2, "kv_heads": 2, "hidden": 64,
		"segment": 16, "tokenizer": "%ssamples/models/stories260K.gguf"}`, layers, source), computing))(t)
	t.Cleanup(func() { model.Close() })
	return model
}

func textOf(file string) string { return fmt.Sprintf(`{"type": "text", "files": [%q]}`, file) }

func description(part string) string {
	return fmt.Sprintf(`{"training": {"train": %q, "tokens": 512, "segments": 4, "rate": 0.01, "warmup": 0}, "data": %s}`,
		part, textOf(source+"tests/bindings/golden.txt"))
}

func trainer(t testing.TB, model *infini.Model, part string) *infini.Trainer {
	t.Helper()
	trainer := must(model.NewTrainer(background, description(part), computing))(t)
	t.Cleanup(func() { trainer.Close() })
	return trainer
}

// timeless cuts the times off the end of a report's JSON.
func timeless(json string) string {
	json, _, _ = strings.Cut(json, `,"seconds"`)
	return json
}

func tell(t testing.TB, model *infini.Model) string {
	t.Helper()
	s := session(t, model)
	check(t, s.FeedText(background, "Once upon a time"))
	var out strings.Builder
	check(t, s.Generate(background, &out))
	return out.String()
}

// The environment's INFINI_TRAINING is what the C program training.c printed on this machine.
func TestEveryLanguageTrainsAlike(t *testing.T) {
	var out strings.Builder
	path := filepath.Join(t.TempDir(), "trained.gguf")
	trainer := trainer(t, tiny(t, 2), "all")
	must(trainer.Step(background))(t)
	fmt.Fprintln(&out, timeless(must(trainer.ReportJSON())(t)))
	must(trainer.Run(background, 79))(t)
	fmt.Fprintln(&out, timeless(must(trainer.ReportJSON())(t)))
	fmt.Fprintln(&out, must(trainer.Evaluate(background, random, 2, 3))(t).JSON)
	check(t, trainer.Write(background, path, "f32"))
	trained := must(infini.Open(background, path, computing))(t)
	defer trained.Close()
	fmt.Fprintln(&out, must(trained.Fact("fingerprint"))(t))
	fmt.Fprintln(&out, tell(t, trained))
	if want := string(must(os.ReadFile(os.Getenv("INFINI_TRAINING")))(t)); out.String() != want {
		t.Fatalf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestTrainerLearnsByHeart(t *testing.T) {
	model := tiny(t, 2)
	trainer := trainer(t, model, "all")
	if json := must(trainer.ReportJSON())(t); json != "{}" {
		t.Error(json)
	}
	if r := must(trainer.Report())(t); r.Step != 0 || !math.IsNaN(r.Loss) {
		t.Error(r)
	}
	first := must(trainer.Step(background))(t)
	if first.Step != 1 || first.Tokens != 512 || first.Segments != 4 || first.Segment != 16 || first.AnswersAcross != 0 ||
		!math.IsNaN(first.RecallAcross) || !math.IsNaN(first.RecallInside) || !(first.GradientNorm > 0) || first.RateFactor != 1 ||
		first.Seconds <= 0 || first.TokensPerSecond <= 0 {
		t.Errorf("%+v", first)
	}
	last := must(trainer.Run(background, 99))(t)
	if !(first.Loss > 5 && last.Loss < 0.5) || last.Step != 100 || last.Loss != must(trainer.Report())(t).Loss {
		t.Errorf("%+v\n%+v", first, last)
	}
	if info := must(trainer.Info())(t); info.Steps != 100 || info.Tokens != 51200 || info.Ranks != 1 || info.Bytes == 0 ||
		info.Training["train"] != "all" || !strings.Contains(info.JSON, `"steps":100,"tokens":51200,`) {
		t.Error(info)
	}

	var heard infini.Progress
	ctx := infini.WithProgress(background, time.Millisecond, func(p infini.Progress) { heard = p })
	e := must(trainer.Evaluate(ctx, textOf(source+"tests/bindings/golden.txt"), 300, 0))(t)
	if !(e.Loss < 0.5) || !math.IsNaN(e.RecallAcross) || e.Sequences != 300 || e.Segments != 4 {
		t.Errorf("%+v", e)
	}
	if heard.Stage != "evaluate" || heard.Done <= 0 || heard.Total != 300 {
		t.Errorf("%+v", heard)
	}
	if e := must(trainer.Evaluate(background, random, 2, 3))(t); e.Predictions != 2*(3*16-1) {
		t.Errorf("%+v", e)
	}

	for _, numberType := range []string{"f32", "f16", "bf16"} {
		path := filepath.Join(t.TempDir(), "😀 "+numberType+".gguf")
		check(t, trainer.Write(background, path, numberType))
		trained := must(infini.Open(background, path, computing))(t)
		defer trained.Close()
		if text := tell(t, trained); !strings.HasPrefix(text, "\n, there was a little girl named Lily.") {
			t.Errorf("%q", text)
		}
	}
	if text := tell(t, model); strings.Contains(text, "Lily") { // it stays as it was
		t.Errorf("%q", text)
	}
}

func TestTrainerCancelLeavesItUsable(t *testing.T) {
	trainer := trainer(t, tiny(t, 2), "all")
	ctx, cancel := context.WithCancel(background)
	var heard infini.Progress
	_, err := trainer.Run(infini.WithProgress(ctx, time.Millisecond, func(p infini.Progress) {
		if heard = p; p.Done >= 3 {
			cancel()
		}
	}), 1<<30)
	fails(t, err, infini.Cancelled, "")
	fails(t, err, context.Canceled, "")
	if heard.Stage != "train" || heard.Total != 1<<30 {
		t.Errorf("%+v", heard)
	}
	done := must(trainer.Report())(t).Step
	if after := must(trainer.Step(background))(t); done < 3 || after.Step != done+1 {
		t.Error(done, after)
	}
	if after := must(trainer.Run(background, 2))(t); after.Step != done+3 {
		t.Error(done, after)
	}
	_, err = trainer.Step(ctx)
	fails(t, err, context.Canceled, "")
	ctx, cancel = context.WithTimeout(background, 20*time.Millisecond)
	defer cancel()
	_, err = trainer.Evaluate(ctx, random, 1<<30, 1)
	fails(t, err, infini.Cancelled, "")
	fails(t, err, context.DeadlineExceeded, "")
	if after := must(trainer.Report())(t); after.Step != done+3 {
		t.Error(done, after)
	}
}

func TestRestoredTrainerGoesOnWithTheSameBits(t *testing.T) {
	path, other := filepath.Join(t.TempDir(), "😀.checkpoint"), filepath.Join(t.TempDir(), "damaged")
	model := tiny(t, 2)
	one, twin := trainer(t, model, "all"), trainer(t, model, "all")
	must(one.Run(background, 5))(t)
	check(t, one.Save(background, path))
	check(t, twin.Restore(background, path))
	if info := must(twin.Info())(t); info.Steps != 5 {
		t.Error(info)
	}
	if a, b := must(one.Run(background, 5))(t).Loss, must(twin.Run(background, 5))(t).Loss; a != b {
		t.Error(a, b)
	}
	if a, b := timeless(must(one.ReportJSON())(t)), timeless(must(twin.ReportJSON())(t)); a != b {
		t.Error(a, b)
	}

	damaged := must(os.ReadFile(path))(t)
	damaged[len(damaged)/2] ^= 1
	check(t, os.WriteFile(other, damaged, 0o600))
	fails(t, twin.Restore(background, other), infini.Checksum, "damaged")
	fails(t, twin.Restore(background, "/nowhere/x"), infini.IO, "/nowhere/x")
	fails(t, twin.Save(background, "/nowhere/x"), infini.IO, "/nowhere/x")
	if a, b := must(one.Step(background))(t).Loss, must(twin.Step(background))(t).Loss; a != b { // nothing has changed
		t.Error(a, b)
	}
	fails(t, trainer(t, tiny(t, 1), "all").Restore(background, path), infini.ModelMismatch, "")
	fails(t, trainer(t, model, "lora").Restore(background, path), infini.ModelMismatch, "")
}

func TestAdapters(t *testing.T) {
	path, merged := filepath.Join(t.TempDir(), "adapter.gguf"), filepath.Join(t.TempDir(), "merged.gguf")
	model := tiny(t, 2)
	lora := trainer(t, model, "lora")
	if first, last := must(lora.Step(background))(t), must(lora.Run(background, 20))(t); !(last.Loss < first.Loss) {
		t.Errorf("%+v\n%+v", first, last)
	}
	check(t, lora.WriteAdapter(background, path))
	check(t, lora.Write(background, merged, "f32"))
	if a, m := must(os.Stat(path))(t).Size(), must(os.Stat(merged))(t).Size(); a < 1000 || a >= m {
		t.Error(a, m)
	}
	check(t, must(infini.Open(background, merged, nil))(t).Close())
	fails(t, trainer(t, model, "all").WriteAdapter(background, path), infini.State, "LoRA")
}

func TestTrainerFindsHeadsAndFitsOthers(t *testing.T) {
	const recall = `{"type": "recall", "density": [40, 40]}`
	model := must(infini.Create(background, fmt.Sprintf(`{"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "hidden": 32, "segment": 32,
		"tokenizer": "%ssamples/models/words2048.gguf"}`, source), computing))(t)
	defer model.Close()
	taught := must(model.NewTrainer(background, `{"training": {"train": "retrieval", "supervised": [[1, 0, 0], [1, 1, 0]], "tokens": 512,
		"segments": 8}, "data": `+recall+`}`, computing))(t)
	defer taught.Close()
	found := must(taught.FindHeads(background, recall, 2, 0))(t)
	if len(found.Heads) != 8 || found.Heads[0].Weight < found.Heads[7].Weight || found.Answers == 0 || found.Sequences != 2 {
		t.Error(found)
	}
	check(t, taught.FitHeads(background, 8))
	must(taught.Step(background))(t)
	fails(t, taught.FitHeads(background, 8), infini.State, "step")
	fails(t, taught.FitHeads(background, 0), infini.InvalidArgument, "nats")
	fails(t, trainer(t, model, "all").FitHeads(background, 8), infini.InvalidArgument, "[layer, head, offset]")
	_, err := taught.FindHeads(background, random, 1, 8)
	fails(t, err, infini.InvalidArgument, "answer")
}

func TestTrainerErrorsNameWhatIsWrong(t *testing.T) {
	model := tiny(t, 2)
	noTokenizer := must(infini.Create(background, `{"layers": 1}`, nil))(t)
	defer noTokenizer.Close()
	for _, c := range []struct {
		model       *infini.Model
		description string
		status      infini.Status
		words       string
	}{
		{model, `{`, infini.InvalidArgument, "JSON"},
		{model, `{}`, infini.InvalidArgument, "data"},
		{model, `{"training": {"rate": "fast"}, "data": {"type": "random"}}`, infini.InvalidArgument, "rate"},
		{model, `{"data": {"type": "random"}, "date": 1}`, infini.InvalidArgument, "date"},
		{model, `{"data": ` + textOf("/nowhere/😀") + `}`, infini.IO, "/nowhere/😀"},
		{noTokenizer, description("all"), infini.State, "tokenizer"},
		{model, "a\x00b", infini.InvalidArgument, "zero byte"},
	} {
		_, err := c.model.NewTrainer(background, c.description, nil)
		fails(t, err, c.status, c.words)
	}
	if table := must(infini.CreationSettings())(t); !strings.Contains(table, `"name":"layers"`) {
		t.Error(table)
	}
	if table := must(infini.KeepSettings())(t); !strings.Contains(table, `"name":"pieces"`) {
		t.Error(table)
	}
	fails(t, model.FitKeep(background, `{"pieces": []}`, "unused"), infini.State, "keeps no sentences")
	if table := must(infini.TrainerSettings())(t); !strings.HasPrefix(table, `[{"name":"training"`) {
		t.Error(table)
	}
	_, err := model.NewTrainer(background, description("all"), infini.Options{"no such": 1})
	fails(t, err, infini.UnknownOption, "threads")
	trainer := trainer(t, model, "all")
	_, err = trainer.Run(background, -1)
	fails(t, err, infini.InvalidArgument, "steps")
	for _, n := range []int{0, -1, 1<<32 + 1} {
		_, err = trainer.Evaluate(background, random, n, 1)
		fails(t, err, infini.InvalidArgument, "sequences")
	}
	_, err = trainer.Evaluate(background, `{"type": "random", "share": 2}`, 1, 1)
	fails(t, err, infini.InvalidArgument, "share")
	fails(t, trainer.Write(background, "unused", "q4"), infini.InvalidArgument, "q4")
	fails(t, trainer.Write(background, "/nowhere/x", "f16"), infini.IO, "/nowhere/x")
	if r := must(trainer.Run(background, 0))(t); r.Step != 0 {
		t.Error(r)
	}
}

func TestTrainerClosingTwiceAndUseAfter(t *testing.T) {
	model := tiny(t, 2)
	trainer := trainer(t, model, "all")
	check(t, model.Close())
	must(trainer.Step(background))(t) // it keeps its model
	check(t, trainer.Close())
	check(t, trainer.Close())
	_, step := trainer.Step(background)
	_, run := trainer.Run(background, 1)
	_, report := trainer.Report()
	_, info := trainer.Info()
	_, evaluate := trainer.Evaluate(background, random, 1, 1)
	for _, err := range []error{step, run, report, info, evaluate, trainer.Save(background, "unused"), trainer.Restore(background, "unused")} {
		fails(t, err, os.ErrClosed, "the trainer is closed")
	}
	_, err := model.NewTrainer(background, description("all"), nil)
	fails(t, err, os.ErrClosed, "the model is closed")
}

func TestTrainerCloseDuringCalls(t *testing.T) {
	model := tiny(t, 2)
	for round := 0; round < 20; round++ {
		trainer := trainer(t, model, "all")
		ended := make(chan error)
		go func() {
			_, err := trainer.Run(background, 1<<30)
			ended <- err
		}()
		go func() { // one waits for its turn
			_, err := trainer.Evaluate(background, random, 1<<30, 1)
			ended <- err
		}()
		time.Sleep(time.Duration(round) * 300 * time.Microsecond)
		check(t, trainer.Close())
		for k := 0; k < 2; k++ {
			if err := <-ended; !errors.Is(err, os.ErrClosed) && !errors.Is(err, infini.Cancelled) {
				t.Fatal(err)
			}
		}
	}
}

func TestTrainerCreateCloseCyclesDoNotGrow(t *testing.T) {
	model := tiny(t, 2)
	const small = `{"training": {"tokens": 64, "segments": 4}, "data": ` + random + `}`
	before := 0
	for i := 0; i < 250; i++ {
		if i == 50 {
			before = resident(t)
		}
		trainer := must(model.NewTrainer(background, small, computing))(t)
		must(trainer.Step(background))(t)
		check(t, trainer.Close())
	}
	if grown := resident(t) - before; grown > 48<<20 { // a trainer takes two
		t.Errorf("grew by %d bytes", grown)
	}
	for i := 0; i < 300; i++ { // the last use of each is inside its own call
		must(must(model.NewTrainer(background, small, computing))(t).Step(background))(t)
		if i%10 == 0 {
			runtime.GC()
		}
	}
	if grown := resident(t) - before; grown > 1<<28 {
		t.Errorf("grew by %d bytes", grown)
	}
}
