package follow

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

// unsaved is what of the state is not on disk.
type unsaved struct{ snapshot, consumers bool }

// retrySave is how long after a failed write the next is tried.
const retrySave = 10 * time.Second

// losesSecrets reports whether resources of one configuration may have secrets that are not in the next one.
func losesSecrets(before, after *config.Config) bool {
	for _, ch := range config.Diff(before, after) {
		if ch.Before == nil {
			continue
		}
		was, now := before.ByID(ch.Kind, ch.ID()), after.ByID(ch.Kind, ch.ID())
		secrets := config.Secrets(was.Message)
		if now == nil && (len(secrets) > 0 || len(was.Message.GetEnvironment()) > 0) {
			return true
		}
		if now == nil {
			continue
		}
		still := config.Secrets(now.Message)
		if slices.ContainsFunc(secrets, func(s config.Secret) bool { return !slices.Contains(still, s) }) {
			return true
		}
		// What a middleware took is in its settings, whose fields are not those of the environment.
		if was.Settings != nil && len(was.Message.GetEnvironment()) > 0 && !proto.Equal(was.Settings, now.Settings) {
			return true
		}
	}
	return false
}

// save puts the state on disk. Where that fails the node serves all the same, and says that it is degraded. Secrets
// that are gone must not stay in the file, so everything is written anew then.
func (f *Follower) save(m *streamv1.StreamResponse, secretsGone bool) {
	change := m
	if f.unsaved.snapshot || secretsGone || m.GetUpdate() != nil && m.GetUpdate().GetBaseRevision() == 0 {
		change = nil
	}
	f.saveSnapshot(change, secretsGone)
}

// saveSnapshot puts a change on disk; nil asks for all. Consumers that only the snapshot before has are written first.
func (f *Follower) saveSnapshot(change *streamv1.StreamResponse, secretsGone bool) {
	if f.state.revision == 0 {
		return // endpoints alone can't be started from
	}
	if secretsGone {
		f.disk.snapshot.forgetDamaged()
	}
	var err error
	if change == nil && f.unsaved.consumers {
		if err = f.writeConsumers(nil); err != nil {
			f.unsaved.snapshot = true
		}
	}
	if err == nil {
		err = f.write(change)
	}
	if err != nil {
		f.log.Error("the last good snapshot can't be written; after a restart the node would run an older one",
			"error", err.Error())
	}
}

// saveConsumers puts changes of consumers on disk; none ask for all of them.
func (f *Follower) saveConsumers(changes []*streamv1.StreamResponse) {
	if f.unsaved.consumers {
		changes = nil
	}
	if len(changes) == 0 {
		f.disk.consumers.forgetDamaged()
	}
	if err := f.writeConsumers(changes); err != nil {
		f.log.Error("the last good consumers can't be written; after a restart the node would have older ones",
			"error", err.Error())
	}
}

// saveAgain writes what could not be written before, now and then: the disk may have room again before the next change
// comes.
func (f *Follower) saveAgain() {
	if f.unsaved == (unsaved{}) || f.state.revision == 0 || time.Since(f.savedAt) < retrySave {
		return
	}
	failed := f.unkept != [2]string{}
	var err error
	if f.unsaved.consumers {
		err = f.writeConsumers(nil)
	}
	if f.unsaved.snapshot && err == nil {
		err = f.write(nil)
	}
	if err == nil && failed {
		f.judge()
		f.log.Info("the last good snapshot is on disk again", "revision", f.state.revision)
	}
}

func (f *Follower) write(change *streamv1.StreamResponse) error {
	var changes []*streamv1.StreamResponse
	if change != nil {
		changes = append(changes, change)
	}
	err := f.disk.snapshot.save(changes, f.state.records)
	f.unsaved.snapshot, f.savedAt, f.unkept[0] = err != nil, time.Now(), textOf(err)
	return err
}

func (f *Follower) writeConsumers(changes []*streamv1.StreamResponse) error {
	err := f.disk.consumers.save(changes, f.state.consumerRecords)
	f.unsaved.consumers, f.savedAt, f.unkept[1] = err != nil, time.Now(), textOf(err)
	return err
}

// textOf is "" for none.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
