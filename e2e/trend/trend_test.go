package trend_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"gateway.internal/e2e/trend"
)

func TestGrows(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, c := range map[string]struct {
		value func(i int) float64
		grows bool
	}{
		"a constant":                  {func(int) float64 { return 100 }, false},
		"noise":                       {func(int) float64 { return 100 + 20*random.Float64() }, false},
		"a tenth more, without noise": {func(i int) float64 { return 100 + float64(i)/8 }, true},
		"a fiftieth more":             {func(i int) float64 { return 100 + float64(i)/40 }, false},
		"half as much again in noise": {func(i int) float64 { return 100 + float64(i)*5/8 + 20*random.Float64() }, true},
		"it shrinks":                  {func(i int) float64 { return 200 - float64(i) }, false},
		"one peak":                    {func(i int) float64 { return 100 + 200*max(0, 1-math.Abs(float64(i-60))) }, false},
	} {
		y := make([]float64, 80)
		for i := range y {
			y[i] = c.value(i)
		}
		if l := trend.Of(y); l.Grows() != c.grows {
			t.Errorf("%s: %s", name, l)
		}
	}
}
