//! Bounds of regular expressions in matches. `compile` refuses what exceeds them, `decide` builds within them.

/// Longest pattern, in bytes.
pub const PATTERN_LENGTH_LIMIT: usize = 4096;

/// Largest automaton that one pattern may become (`nfa_size_limit` of regex-automata), in bytes.
pub const PATTERN_SIZE_LIMIT: usize = 1 << 20;

/// Deepest nesting of groups and repetitions in a pattern.
pub const PATTERN_NEST_LIMIT: u32 = 64;
