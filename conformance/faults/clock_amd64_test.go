package faults

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The clocks of data planes are a minute before or behind the controller's: those that join get their certificates, those
// that are connected stay or come back, and changes are followed.
func TestClocksOfDataPlanesAreWrong(t *testing.T) {
	b := newBed(t, "clocks")
	address := b.gatewayOf(b.class("replicas: 2"), "served")
	b.readyPods("served", 2)
	load := startLoad(address, "served.example")
	for _, skew := range []time.Duration{time.Minute, -time.Minute} {
		name := fmt.Sprintf("skew%d", int(skew.Seconds()))
		scale(t, controllerNamespace, controllerName, 0)
		old := b.pods("served")
		b.delete("Pod", old[0].GetName())
		eventually(t, time.Minute, "another pod runs, and waits", func() error {
			pods := b.pods("served")
			for _, pod := range pods {
				if phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase"); phase != "Running" || pod.GetName() == old[0].GetName() {
					return fmt.Errorf("%s is %s", pod.GetName(), phase)
				}
			}
			if len(pods) != 2 {
				return fmt.Errorf("%d pods", len(pods))
			}
			return nil
		})
		for _, pod := range b.pods("served") {
			setClock(t, processOf(t, &pod), skew)
		}
		scale(t, controllerNamespace, controllerName, 1)
		b.readyPods("served", 2)
		b.apply(route(name, "served"))
		b.serves(address, name+".example")
		b.routeSays(name, "Accepted", "True")
		b.isServed("served")
		for _, pod := range b.pods("served") {
			eventually(t, time.Minute, pod.GetName()+" is connected and up to date", func() error {
				if b.metric(pod, "portcullis_controller_connected") != 1 {
					return fmt.Errorf("it is not connected")
				}
				return nil
			})
			// The clock really is wrong: that is what the pod says itself.
			expectNear(t, pod.GetName()+"'s clock", b.metric(pod, "portcullis_controller_last_config_timestamp_seconds"), time.Now().Add(skew))
		}
	}
	load.mustHaveServed(t)
}

// The clock of the controller that holds the lease is a minute before or behind: what it signs is taken by data planes whose
// clocks are right, and when it is killed, the other replica takes over, however far ahead the lease was renewed.
func TestClockOfTheControllerIsWrong(t *testing.T) {
	b := newBed(t, "clock")
	address := b.gatewayOf(b.class("replicas: 2"), "served")
	b.readyPods("served", 2)
	load := startLoad(address, "served.example")
	scale(t, controllerNamespace, controllerName, 2)
	t.Cleanup(func() { scale(t, controllerNamespace, controllerName, 1) })
	system := &bed{t: t, namespace: controllerNamespace}
	for _, skew := range []time.Duration{time.Minute, -time.Minute} {
		name := fmt.Sprintf("skew%d", int(skew.Seconds()))
		leader := system.leader()
		setClock(t, processOf(t, leader), skew)
		b.apply(route(name, "served"))
		b.serves(address, name+".example")
		b.routeSays(name, "Accepted", "True")

		// The other replica answers for none of this: a data plane that joins now gets its certificate from the one that is wrong.
		others := system.controllers()
		for _, other := range others {
			if other.GetName() != leader.GetName() {
				send(t, &other, syscall.SIGSTOP)
			}
		}
		joined := b.renew("served")
		expectNear(t, "the end of its certificate", b.metric(joined, "portcullis_identity_not_after_timestamp_seconds"), time.Now().Add(time.Hour+skew))
		for _, other := range others {
			if other.GetName() != leader.GetName() {
				send(t, &other, syscall.SIGCONT)
			}
		}
		b.isServed("served")

		system.deleteAtOnce(leader)
		b.apply(route(name+"-after", "served"))
		b.serves(address, name+"-after.example")
		eventually(t, 40*time.Second, "another replica holds the lease", func() error {
			if holder, err := system.holder(); err != nil || holder.GetName() == leader.GetName() {
				return fmt.Errorf("%v", err)
			}
			return nil
		})
		b.routeSays(name+"-after", "Accepted", "True")
		b.isServed("served")
		scale(t, controllerNamespace, controllerName, 2)
	}
	load.mustHaveServed(t)
}

// renew deletes one of two data planes and waits for the one that comes instead.
func (b *bed) renew(gateway string) (joined unstructured.Unstructured) {
	b.t.Helper()
	old, victim := map[string]bool{}, ""
	for _, pod := range b.pods(gateway) {
		old[pod.GetName()] = true
		// One that goes already has its successor.
		if pod.GetDeletionTimestamp() == nil {
			victim = pod.GetName()
		}
	}
	b.delete("Pod", victim)
	eventually(b.t, 2*time.Minute, "a new data plane is ready", func() error {
		for _, pod := range b.pods(gateway) {
			if !old[pod.GetName()] && isReady(pod) {
				joined = pod
				return nil
			}
		}
		return fmt.Errorf("none is")
	})
	return joined
}

func (b *bed) controllers() []unstructured.Unstructured {
	b.t.Helper()
	list, err := b.of("Pod").List(context.Background(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
	if err != nil {
		b.t.Fatal(err)
	}
	return list.Items
}

// holder is the controller that says that it holds the lease.
func (b *bed) holder() (*unstructured.Unstructured, error) {
	for _, pod := range b.controllers() {
		if pod.GetDeletionTimestamp() == nil && isReady(pod) && b.metric(pod, "portcullis_leader") == 1 {
			return &pod, nil
		}
	}
	return nil, fmt.Errorf("no replica says that it does")
}

func (b *bed) leader() (leader *unstructured.Unstructured) {
	b.t.Helper()
	eventually(b.t, time.Minute, "a controller holds the lease", func() (err error) {
		leader, err = b.holder()
		return err
	})
	return leader
}

// expectNear holds a Unix time against another, to half of the skew.
func expectNear(t *testing.T, what string, seconds float64, wanted time.Time) {
	t.Helper()
	if difference := time.Unix(int64(seconds), 0).Sub(wanted); difference.Abs() > 30*time.Second {
		t.Errorf("%s is %s off from what it should be", what, difference)
	}
}

// setClock makes the real time that one process sees differ from that of all others, which is nothing that the kernel has. It can
// be done again.
func setClock(t *testing.T, process int, skew time.Duration) {
	t.Helper()
	replaceClock(t, process, shiftedClock(int32(skew.Seconds())))
}

// Instructions that no program survives: a signal that is only sent does not end the first process of a container.
var faulty = map[syscall.Signal][]byte{
	syscall.SIGILL:  {0x0f, 0x0b}, // ud2
	syscall.SIGSEGV: {0xf4},       // hlt
}

// replaceClock gives one process another function to read the time by. Every program calls the one of the vDSO, of which a process
// gets its own copy when it is written to.
func replaceClock(t *testing.T, process int, code []byte) {
	t.Helper()
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", process), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	start, end := vdso(t, process)
	image := make([]byte, end-start)
	if _, err := memory.ReadAt(image, start); err != nil {
		t.Fatal(err)
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, symbol := range symbols {
		if symbol.Name == "__vdso_clock_gettime" && symbol.Size >= uint64(len(code)) {
			whileStopped(t, process, start, end, func() {
				if _, err := memory.WriteAt(code, start+int64(symbol.Value)); err != nil {
					t.Fatal(err)
				}
			})
			return
		}
	}
	t.Fatal("the vDSO has no __vdso_clock_gettime, or a small one")
}

// shiftedClock is clock_gettime that adds seconds to CLOCK_REALTIME and CLOCK_REALTIME_COARSE.
func shiftedClock(seconds int32) []byte {
	code := []byte{
		0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228 (clock_gettime)
		0x0f, 0x05, // syscall
		0x85, 0xc0, // test eax, eax
		0x75, 0x10, // jnz return
		0x85, 0xff, // test edi, edi
		0x74, 0x05, // jz shift
		0x83, 0xff, 0x05, // cmp edi, 5
		0x75, 0x07, // jne return
		0x48, 0x81, 0x06, // shift: add qword ptr [rsi], seconds
	}
	code = binary.LittleEndian.AppendUint32(code, uint32(seconds))
	return append(code, 0xc3) // return: ret
}

// vdso is where the kernel's functions are in a process.
func vdso(t *testing.T, process int) (start, end int64) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", process))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err == nil {
				return start, end
			}
		}
	}
	t.Fatalf("process %d has no vDSO", process)
	return 0, 0
}

// whileStopped stops a process where none of its threads is in [start, end), and lets it go on afterwards.
func whileStopped(t *testing.T, process int, start, end int64, change func()) {
	t.Helper()
	defer func() { _ = syscall.Kill(process, syscall.SIGCONT) }()
	eventually(t, 10*time.Second, "the process stands still outside of the vDSO", func() error {
		if err := syscall.Kill(process, syscall.SIGSTOP); err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
		if err := standsOutside(process, start, end); err != nil {
			_ = syscall.Kill(process, syscall.SIGCONT)
			return err
		}
		change()
		return nil
	})
}

// standsOutside is an error unless every thread is stopped with its program counter outside of [start, end).
func standsOutside(process int, start, end int64) error {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", process))
	if err != nil {
		return err
	}
	for _, thread := range threads {
		// "running", or the system call, its arguments, the stack pointer and the program counter.
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", process, thread.Name()))
		if err != nil {
			return err
		}
		fields := strings.Fields(string(text))
		if len(fields) < 3 {
			return fmt.Errorf("thread %s is %s", thread.Name(), text)
		}
		counter, err := strconv.ParseUint(fields[len(fields)-1], 0, 64)
		if err != nil {
			return err
		}
		if uint64(start) <= counter && counter < uint64(end) {
			return fmt.Errorf("thread %s is in the vDSO", thread.Name())
		}
	}
	return nil
}
