// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"callout.test/callout/internal/abi"
	"callout.test/callout/internal/bridge"
)

// Host is the host as an instance sees it: its log and its extensions. Any goroutine may use it; when
// the instance has been destroyed it does nothing any more.
type Host struct {
	services bridge.Host
	gate     // of the services
}

// gate is before the services of an instance or a call, which goroutines of the plugin may outlive.
type gate struct {
	users atomic.Int64 // those who use the services now; over is added at the end
}

const over = int64(1) << 62

var errOver = Errorf(FailedPrecondition, "the instance has been destroyed")

// enter says whether the services are still there; then leave has to follow.
func (gate *gate) enter() bool {
	if gate.users.Add(1) < over {
		return true
	}
	gate.users.Add(-1)
	return false
}

func (gate *gate) leave() { gate.users.Add(-1) }

func (gate *gate) isOver() bool { return gate.users.Load() >= over }

// end returns when nobody uses the services any more, nor will.
func (gate *gate) end() {
	gate.users.Add(over)
	for gate.users.Load() != over {
		runtime.Gosched()
	}
}

func (host *Host) log(level uint32, format string, arguments []any) {
	if !host.enter() {
		return
	}
	defer host.leave()
	if host.services.LogEnabled(level) {
		host.services.Log(level, fmt.Sprintf(format, arguments...))
	}
}

// Debugf writes a line with the instance's name to the host's log.
func (host *Host) Debugf(format string, arguments ...any) { host.log(abi.LogDebug, format, arguments) }

// Infof does the same.
func (host *Host) Infof(format string, arguments ...any) { host.log(abi.LogInfo, format, arguments) }

// Warningf does the same.
func (host *Host) Warningf(format string, arguments ...any) {
	host.log(abi.LogWarning, format, arguments)
}

// Errorf does the same.
func (host *Host) Errorf(format string, arguments ...any) { host.log(abi.LogError, format, arguments) }

// Go starts a goroutine. A panic in it is logged; in a goroutine that a plugin starts by itself it would
// end the host.
func (host *Host) Go(function func()) {
	go func() {
		defer host.recovered("goroutine")
		function()
	}()
}

func (host *Host) recovered(where string) {
	if cause := recover(); cause != nil {
		host.Errorf("%s: panic: %s", where, textOf(cause))
	}
}

// Metric is served at /metrics with the label plugin="INSTANCE".
type Metric struct {
	host *Host
	id   uint32
}

// Record adds to a counter and an up-down counter, sets a gauge, and is observed by a histogram.
func (metric Metric) Record(value float64) {
	if metric.host != nil && metric.host.enter() {
		defer metric.host.leave()
		metric.host.services.RecordMetric(metric.id, value)
	}
}

// Increment adds one to a counter.
func (metric Metric) Increment() { metric.Record(1) }

// --- Timers ---

// Timer is a timer that has been started.
type Timer struct {
	host *Host
	id   uint64
}

// Soon runs a function once, on one of the host's threads: see Every.
func (host *Host) Soon(function func()) (*Timer, error) { return host.start(function, 0, 0) }

// After runs a function once, after a delay of at most 365 days: see Every.
func (host *Host) After(delay time.Duration, function func()) (*Timer, error) {
	return host.start(function, delay, 0)
}

// Every runs a function soon, and again each time that a period of at least 1 ms has passed since its
// end. It is the extension callout.timers/1: the functions of an instance never overlap, run beside its
// hooks, may wait, and none runs once the instance is being destroyed. A panic is logged, and does not
// end the timer.
func (host *Host) Every(period time.Duration, function func()) (*Timer, error) {
	if period < abi.TimerPeriodMinNs {
		return nil, Errorf(InvalidArgument, "a timer's period is at least 1 ms")
	}
	return host.start(function, 0, period)
}

func (host *Host) start(function func(), delay, period time.Duration) (*Timer, error) {
	if !host.enter() {
		return nil, errOver
	}
	defer host.leave()
	if !host.services.HasTimers() {
		return nil, Errorf(Unimplemented, "this host has no timers")
	}
	run := func() {
		defer host.recovered("timer")
		function()
	}
	id, status := host.services.StartTimer(run, uint64(max(delay, 0)), uint64(period))
	if err := refusal(status, "the host started no timer"); err != nil {
		return nil, err
	}
	return &Timer{host, id}, nil
}

// Cancel ends the timer, without waiting. False: it is over, or is in its last run at this moment.
func (timer *Timer) Cancel() bool {
	if !timer.host.enter() {
		return false
	}
	defer timer.host.leave()
	return timer.host.services.CancelTimer(timer.id) == abi.Ok
}

// --- Shared data ---

// SharedData keeps values by key in the memory of the host, for all instances of the process and for the
// next version of a plugin: the extension callout.shared_data/1. With --workers each worker has a store
// of its own, and so has each other host.
type SharedData struct {
	host  *Host
	space string
}

// Absent is the version of a value that is not there.
const Absent uint64 = abi.SharedAbsent

// SharedData gives a space of keys: "" is the instance's own, which every version of it sees; one with a
// name (up to 128 bytes) is shared with all who use it.
func (host *Host) SharedData(space string) (*SharedData, error) {
	if !host.enter() {
		return nil, errOver
	}
	defer host.leave()
	if !host.services.HasSharedData() {
		return nil, Errorf(Unimplemented, "this host has no shared data")
	}
	return &SharedData{host, space}, nil
}

func (data *SharedData) call(key string, use func(bridge.Host) int32) (found bool, err error) {
	if !data.host.enter() {
		return false, errOver
	}
	defer data.host.leave()
	switch status := use(data.host.services); status {
	case abi.NotFound, abi.Aborted:
		return false, nil
	default:
		// Without the key, which may be a secret: hooks return this error, and the host logs it and tells Envoy.
		return status == abi.Ok, refusal(status, "the host's shared data refuses the call; its key has %d bytes", len(key))
	}
}

// A life of 0 would mean for ever to the host.
func life(ttl time.Duration) uint64 {
	if ttl == Forever {
		return 0
	}
	return uint64(max(ttl, 1))
}

// Forever is the life of a value that stays until it is removed.
const Forever time.Duration = 0

// Get returns the value, and whether there is one.
func (data *SharedData) Get(key string) (value string, found bool, err error) {
	value, _, found, err = data.Find(key)
	return value, found, err
}

// Find returns the version as well, for PutIf and RemoveIf.
func (data *SharedData) Find(key string) (value string, version uint64, found bool, err error) {
	found, err = data.call(key, func(host bridge.Host) (status int32) {
		value, version, status = host.GetShared(data.space, key)
		return status
	})
	return value, version, found, err
}

// Put sets the value for a time, or Forever.
func (data *SharedData) Put(key, value string, ttl time.Duration) error {
	_, _, err := data.put(key, value, ttl, abi.SharedAny, false)
	return err
}

// Cache does the same, but the host may drop the value for room: for what can be found out again.
func (data *SharedData) Cache(key, value string, ttl time.Duration) error {
	_, _, err := data.put(key, value, ttl, abi.SharedAny, true)
	return err
}

// PutIf sets the value if it has this version. False: it has another one, and nothing has changed.
func (data *SharedData) PutIf(key, value string, ttl time.Duration, version uint64) (uint64, bool, error) {
	return data.put(key, value, ttl, version, false)
}

func (data *SharedData) put(key, value string, ttl time.Duration, expected uint64, mayEvict bool) (version uint64, done bool, err error) {
	done, err = data.call(key, func(host bridge.Host) (status int32) {
		version, status = host.PutShared(data.space, key, value, mayEvict, life(ttl), expected)
		return status
	})
	return version, done, err
}

// Remove removes the value. False: there was none.
func (data *SharedData) Remove(key string) (bool, error) { return data.RemoveIf(key, abi.SharedAny) }

// RemoveIf removes the value if it has this version.
func (data *SharedData) RemoveIf(key string, version uint64) (bool, error) {
	return data.call(key, func(host bridge.Host) int32 { return host.RemoveShared(data.space, key, version) })
}

// Add adds to a count and gives the sum. The count begins at 0 and lives for ttl from its first Add, so
// that it counts what falls into a window of time.
func (data *SharedData) Add(key string, amount int64, ttl time.Duration) (sum int64, err error) {
	_, err = data.call(key, func(host bridge.Host) (status int32) {
		sum, status = host.AddShared(data.space, key, amount, life(ttl))
		return status
	})
	return sum, err
}
