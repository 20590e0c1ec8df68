package main

// defaultSuite is the release that the project implements.
const defaultSuite = "v1.7.0"

func suiteCommand(arguments []string) error {
	return usageError{"not yet"}
}
