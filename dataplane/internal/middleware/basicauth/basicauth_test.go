package basicauth

import (
	"encoding/base64"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/consumer/consumertest"
	"gateway.internal/dataplane/internal/exchange"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

// consumers has hashes that are verified at once, unless the password is to be hashed as others are.
func consumers(t testing.TB, base *consumer.Set, password string) *consumer.Set {
	t.Helper()
	cheap := func(password string) *string {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return proto.String(string(hash))
	}
	return consumertest.Set(t, base, &configv1.Consumer{Name: "shop", Credentials: &configv1.Credentials{
		Basic: []*configv1.BasicCredential{
			{Username: "ann", Password: cheap(password)}, {Username: "ümit", Password: cheap("of ümit")},
		},
	}})
}

func newStep(t testing.TB, settings *middlewarev1.BasicAuth, all func() *consumer.Set, now func() time.Time) *step {
	t.Helper()
	s, err := New(settings, consumertest.Environment("basic_auth", all, now))
	if err != nil {
		t.Fatal(err)
	}
	return s.(*step)
}

func basic(pair string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) }

func request(x *exchange.Exchange, authorization ...string) {
	x.Reset()
	x.Request.Path = "/"
	for _, a := range authorization {
		x.Request.Header.Append(exchange.Field{Name: "Authorization", Value: a})
	}
	x.Request.Header.Append(exchange.Field{Name: "X-Consumer", Value: "forged"})
}

func TestPasswords(t *testing.T) {
	all := consumers(t, nil, "pass:word")
	s := newStep(t, &middlewarev1.BasicAuth{ConsumerHeader: "X-Consumer"}, func() *consumer.Set { return all }, time.Now)
	for _, c := range []struct {
		name          string
		authorization []string
		passes, wrong bool
	}{
		{"right", []string{basic("ann:pass:word")}, true, false},
		{"scheme in another case", []string{"bASIC   " + basic("ann:pass:word")[6:] + " "}, true, false},
		{"UTF-8", []string{basic("ümit:of ümit")}, true, false},
		{"none", nil, false, false},
		{"another scheme", []string{"Bearer " + basic("ann:pass:word")[6:]}, false, false},
		{"wrong password", []string{basic("ann:pass:Word")}, false, true},
		{"no password", []string{basic("ann:")}, false, true},
		{"no colon", []string{basic("ann")}, false, true},
		{"no user", []string{basic(":pass:word")}, false, true},
		{"unknown user", []string{basic("bob:pass:word")}, false, true},
		{"no base64", []string{"Basic ann:pass:word"}, false, true},
		{"base64 with other padding bits", []string{"Basic YW5uOnBhc3M6d29yZB=="}, false, true},
		{"nothing", []string{"Basic"}, false, true},
		{"control characters", []string{basic("ann:pass\x00:word")}, false, true},
		{"no UTF-8", []string{basic("\xff:pass:word")}, false, true},
		{"too long", []string{basic("ann:" + strings.Repeat("p", 600))}, false, true},
		{"twice", []string{basic("ann:pass:word"), basic("ann:pass:word")}, false, true},
		{"two", []string{basic("ann:pass:word"), "Bearer x"}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var x exchange.Exchange
			request(&x, c.authorization...)
			v := s.Request(&x)
			if c.passes {
				if name := x.Request.Header.Get("X-Consumer"); v != exchange.Continue || x.Consumer() != "shop" || name != "shop" ||
					x.Principal.Scheme != "Basic" {
					t.Errorf("%v as %+v", v, x.Principal)
				}
				if _, there := x.Request.Header.Lookup("Authorization"); there {
					t.Error("the service gets the password")
				}
				return
			}
			if v != exchange.Stop || x.Response.Status != 401 || x.Response.Code != fault.Unauthenticated ||
				x.Principal != nil || x.Response.Header.Get("WWW-Authenticate") != `Basic realm="gateway", charset="UTF-8"` {
				t.Errorf("%v: %d %s %v", v, x.Response.Status, x.Response.Code, x.Response.Header.Fields())
			}
			optional := newStep(t, &middlewarev1.BasicAuth{Optional: true}, func() *consumer.Set { return all }, time.Now)
			request(&x, c.authorization...)
			if v := optional.Request(&x); (v == exchange.Stop) != c.wrong {
				t.Errorf("optional: %v", v)
			}
		})
	}
}

// TestVerifiedPasswordsAreKept for a time, in loops too, until the consumer's password changes.
func TestVerifiedPasswordsAreKept(t *testing.T) {
	all, now := consumers(t, nil, "password"), time.Now()
	s := newStep(t, &middlewarev1.BasicAuth{CacheTtl: "1m"}, func() *consumer.Set { return all },
		func() time.Time { return now })
	var x exchange.Exchange
	ask := func(pair string, inLoop bool) exchange.Verdict {
		request(&x, basic(pair))
		x.InLoop = inLoop
		return s.Request(&x)
	}
	if v := ask("ann:password", true); v != exchange.Later {
		t.Fatalf("what takes long is done in a loop: %v", v)
	}
	if v := ask("ann:password", false); v != exchange.Continue {
		t.Fatal(v)
	}
	if v := ask("ann:password", true); v != exchange.Continue {
		t.Errorf("what was verified is verified again: %v", v)
	}
	if v := ask("ann:passwore", true); v != exchange.Later {
		t.Errorf("another password was not verified: %v", v)
	}
	all = consumertest.Set(t, all, &configv1.Consumer{Name: "another"})
	if v := ask("ann:password", true); v != exchange.Continue {
		t.Errorf("another consumer's change counts: %v", v)
	}
	before := now
	if now = now.Add(time.Minute); ask("ann:password", true) != exchange.Later {
		t.Error("a verified password counts for longer than it may")
	}
	now = before
	all = consumers(t, all, "changed")
	if v := ask("ann:password", false); v != exchange.Stop {
		t.Errorf("the old password counts: %v", v)
	}
	if v := ask("ann:changed", false); v != exchange.Continue {
		t.Errorf("the new password does not count: %v", v)
	}
	d := all.Draft()
	d.Remove(all.ByName("shop").ID())
	all = d.Set()
	if v := ask("ann:changed", false); v != exchange.Stop {
		t.Errorf("a user that is gone counts: %v", v)
	}
}

// TestFloodsWait: of many passwords few are verified at once, others wait, and more are turned away.
func TestFloodsWait(t *testing.T) {
	all := consumers(t, nil, "password")
	s := newStep(t, &middlewarev1.BasicAuth{}, func() *consumer.Set { return all }, time.Now)
	turns := s.turns.Value()
	for range cap(turns.running) {
		turns.running <- struct{}{}
	}
	turns.waiting.Add(maxWaiting)
	var x exchange.Exchange
	request(&x, basic("ann:password"))
	if v := s.Request(&x); v != exchange.Stop || x.Response.Status != 503 || x.Response.Code != fault.Overloaded {
		t.Errorf("%v: %d %s", v, x.Response.Status, x.Response.Code)
	}
	turns.waiting.Add(-maxWaiting)
	request(&x, basic("ann:password"))
	x.Deadline = time.Now()
	if v := s.Request(&x); v != exchange.Stop || x.Response.Status != 503 || turns.waiting.Load() != 0 {
		t.Errorf("%v: %d, %d wait", v, x.Response.Status, turns.waiting.Load())
	}
	turns.leave()
	request(&x, basic("ann:password"))
	if v := s.Request(&x); v != exchange.Continue {
		t.Errorf("%v: %d", v, x.Response.Status)
	}
}

// TestUnknownUsersCostAsMuch as wrong passwords: the same work is done for both.
func TestUnknownUsersCostAsMuch(t *testing.T) {
	all := consumertest.Set(t, nil, &configv1.Consumer{Name: "shop", Credentials: &configv1.Credentials{
		Basic: []*configv1.BasicCredential{{Username: "ann", Password: proto.String("password")}},
	}})
	s := newStep(t, &middlewarev1.BasicAuth{}, func() *consumer.Set { return all }, time.Now)
	cost := func(pair string) time.Duration {
		best := time.Hour
		for range 2 {
			var x exchange.Exchange
			request(&x, basic(pair))
			before := spent(t)
			if s.Request(&x) != exchange.Stop {
				t.Fatal("passes")
			}
			best = min(best, spent(t)-before)
		}
		return best
	}
	wrong, unknown := cost("ann:wrong"), cost("bob:wrong")
	if unknown < wrong/4 {
		t.Errorf("an unknown user costs %v, a wrong password %v", unknown, wrong)
	}
}

// spent returns the processor time of this process, which does not grow while others have the processors.
func spent(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func TestKeptPasswordDoesNotAllocate(t *testing.T) {
	all := consumers(t, nil, "password")
	s := newStep(t, &middlewarev1.BasicAuth{}, func() *consumer.Set { return all }, time.Now)
	var x exchange.Exchange
	request(&x, basic("ann:password"))
	if s.Request(&x) != exchange.Continue {
		t.Fatal("refused")
	}
	value := basic("ann:password")
	if n := testing.AllocsPerRun(100, func() {
		x.Reset()
		x.Request.Header.Append(exchange.Field{Name: "Authorization", Value: value})
		if s.Request(&x) != exchange.Continue {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestKeptPasswordsAreBounded: more of them take the places of others.
func TestKeptPasswordsAreBounded(t *testing.T) {
	v, err := newVerified()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i := range sets * ways * 5 / 4 {
		v.put(v.key(fmt.Sprint(i)), "hash", now.Add(time.Minute))
	}
	last := v.key(fmt.Sprint(sets*ways*5/4 - 1))
	if !v.has(last, "hash", now) || v.has(last, "another hash", now) || v.has(last, "hash", now.Add(time.Minute)) {
		t.Error("the last one is not kept, or for another hash, or for too long")
	}
	_ = v.Close()
	if v.has(last, "hash", now) {
		t.Error("it is kept after the end")
	}
}

// FuzzPair: whatever is sent is no pair, or one without control characters that is what was sent.
func FuzzPair(f *testing.F) {
	f.Add("YW5uOnBhc3N3b3Jk")
	f.Add("YQ==")
	f.Fuzz(func(t *testing.T, encoded string) {
		var memory [maxPairBytes]byte
		username, password, ok := pair(encoded, memory[:])
		if ok && base64.StdEncoding.EncodeToString([]byte(username+":"+password)) != encoded {
			t.Errorf("%q is read as %q and %q", encoded, username, password)
		}
	})
}

func BenchmarkKeptPassword(b *testing.B) {
	all := consumers(b, nil, "password")
	s := newStep(b, &middlewarev1.BasicAuth{}, func() *consumer.Set { return all }, time.Now)
	var x exchange.Exchange
	value := basic("ann:password")
	b.ReportAllocs()
	for b.Loop() {
		x.Principal = nil
		x.Request.Header.Reset()
		x.Request.Header.Append(exchange.Field{Name: "Authorization", Value: value})
		if s.Request(&x) != exchange.Continue {
			b.Fatal("refused")
		}
	}
}
