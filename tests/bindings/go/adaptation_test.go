package tests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.org/infini"
)

func settings(more string) string {
	return fmt.Sprintf(`{"texts": [%q], "steps": 4, "segments": 4, "find_sequences": 1%s}`,
		source+"samples/texts/wuthering_heights.txt", more)
}

func adaptation(t *testing.T, settings string) *infini.Adaptation {
	t.Helper()
	path := source + "samples/models/stories260K.gguf"
	a := must(infini.NewAdaptation(background, path, settings, computing))(t)
	t.Cleanup(func() { a.Close() })
	return a
}

// stories260K learns to use its memory, for a few steps.
func TestAdaptation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "adapted.gguf")
	if table := must(infini.AdaptationSettings())(t); !strings.Contains(table, `"name":"texts"`) {
		t.Error(table)
	}
	a := adaptation(t, settings(""))
	if report := must(a.ReportJSON())(t); report != "{}" {
		t.Error(report)
	}
	fails(t, a.Write(background, path), infini.State, "not adapted")
	if !must(a.Step(background))(t) {
		t.Error("nothing to do")
	}
	if report := must(a.ReportJSON())(t); !strings.HasPrefix(report, `{"phase":"find"`) {
		t.Error(report)
	}
	check(t, a.Run(background))
	if must(a.Step(background))(t) {
		t.Error("something is left")
	}
	if info := must(a.InfoJSON())(t); !strings.Contains(info, `"complete":true`) {
		t.Error(info)
	}
	check(t, a.Write(background, path))
	adapted := must(infini.Open(background, path, nil))(t)
	defer adapted.Close()
	if value := must(adapted.Fact("trained_memory"))(t); value != "true" {
		t.Error(value)
	}
}

func TestAdaptationGoesOnFromWhatWasKept(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "kept")
	with := settings(fmt.Sprintf(`, "checkpoint": %q`, kept))
	a := adaptation(t, with)
	for step := 0; step < 4; step++ {
		must(a.Step(background))(t)
	}
	check(t, a.Save(background))
	check(t, a.Close())
	a = adaptation(t, with)
	must(a.Step(background))(t)
	if report := must(a.ReportJSON())(t); !strings.HasPrefix(report, `{"step":3,`) {
		t.Error(report)
	}
	check(t, a.Discard())
	if _, err := os.Stat(kept + ".json"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	_, err := infini.NewAdaptation(background, source+"samples/models/stories260K.gguf", settings(`, "step": 1`), nil)
	fails(t, err, infini.InvalidArgument, "step")
}
