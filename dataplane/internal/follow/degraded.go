package follow

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// maxUnknown is how many fields that this build does not know are named one by one.
const maxUnknown = 50

// judge finds out what of the state does not work. A field that this build does not know has no effect, and nobody can
// say what that means for the resource; the node serves all the same, as it does with what it can't keep on disk.
func (f *Follower) judge() {
	problems, resources := f.unknownFields()
	for _, p := range f.unmet {
		problems = append(problems, &streamv1.Problem{Kind: p.GetKind(), Name: p.GetName(), Field: p.GetField(),
			Reason: "the node keeps the consumers that it had: " + p.GetReason()})
	}
	for _, why := range f.unkept {
		if why != "" {
			problems = append(problems, &streamv1.Problem{Reason: "the node runs it, but can't keep it for a restart: " + why})
		}
	}
	var now *streamv1.Degradation
	if len(problems) > 0 {
		now = &streamv1.Degradation{Problems: problems}
	}
	before := f.degraded.Load()
	if proto.Equal(before, now) {
		return
	}
	f.degraded.Store(now)
	if resources > 0 {
		f.log.Warn("the configuration has fields that this build does not know; the node serves without them",
			"revision", f.state.revision, "resources", resources, "problems", describe(problems))
	}
}

// unknownFields returns what there is to say of fields that this build does not know, and how many resources have some.
func (f *Follower) unknownFields() (problems []*streamv1.Problem, resources int) {
	more := 0
	add := func(kind config.Kind, name string, places []string) {
		resources++
		for _, place := range places {
			if len(problems) == maxUnknown {
				more++
				continue
			}
			problems = append(problems, &streamv1.Problem{Kind: kind.String(), Name: name, Field: place,
				Reason: fmt.Sprintf("has no effect: this build (%s) does not know the field, so upgrade the node", f.set.Build)})
		}
	}
	for _, e := range f.state.config.Unknown() {
		add(e.Kind, e.Name(), e.Unknown())
	}
	for c := range f.state.consumers.Unknown() {
		add(config.Consumer, c.Name(), c.Unknown())
	}
	if more > 0 {
		problems = append(problems, &streamv1.Problem{Reason: fmt.Sprintf("%d more fields have no effect", more)})
	}
	return problems, resources
}

// Degraded returns what of the revision that the node runs does not work; empty: it works. It is safe for concurrent
// use, and the result is not to be changed.
func (f *Follower) Degraded() []*streamv1.Problem { return f.degraded.Load().GetProblems() }

var degradedDesc = prometheus.NewDesc("gateway_config_problems",
	"What of the revision that the node runs does not work: fields that this build does not know, and the revision "+
		"itself where it can't be kept for a restart.", nil, nil)

// Describe implements prometheus.Collector.
func (f *Follower) Describe(ch chan<- *prometheus.Desc) { ch <- degradedDesc }

// Collect implements prometheus.Collector.
func (f *Follower) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(degradedDesc, prometheus.GaugeValue, float64(len(f.Degraded())))
}
