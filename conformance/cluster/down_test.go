package main

import (
	"slices"
	"testing"
)

func TestStartTime(t *testing.T) {
	const rest = " 1 1 1 0 -1 4194560 10 11 12 13 14 15 16 17 20 0 1 0 987654 1 2 3"
	cases := []struct {
		name, stat, want string
		fails            bool
	}{
		{"plain", "7 (init) S" + rest, "987654", false},
		{"a name with brackets and spaces", "7 (a) (b c) S" + rest, "987654", false},
		{"a zombie is gone", "7 (init) Z" + rest, "", true},
		{"cut off", "7 (init) S 1", "", true},
		{"nothing", "", "", true},
	}
	for _, c := range cases {
		found, err := parseStartTime(c.stat)
		if found != c.want || (err != nil) != c.fails {
			t.Errorf("%s: %q, %v", c.name, found, err)
		}
	}
}

const mountinfo = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 22 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
40 22 254:0 /x /var/lib/portcullis-conformance/ab12/tmp rw,relatime - ext4 /dev/vda rw
`

func TestCgroupRoots(t *testing.T) {
	want := []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"}
	if found := parseCgroupRoots(mountinfo); !slices.Equal(found, want) {
		t.Errorf("found %v", found)
	}
}

// Files are never removed through a mount.
func TestMountBelow(t *testing.T) {
	const base = "/var/lib/portcullis-conformance/"
	cases := map[string]string{
		base + "ab12":     base + "ab12/tmp",
		base + "ab12/tmp": base + "ab12/tmp",
		base + "ab1":      "",
		base + "cd34":     "",
	}
	for folder, want := range cases {
		if found := mountBelow(mountinfo, folder); found != want {
			t.Errorf("%s: %q, want %q", folder, found, want)
		}
	}
}
