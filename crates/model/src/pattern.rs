//! Bounds of regular expressions in matches. `compile` refuses what exceeds them, `decide` builds within them.

/// Longest pattern, in bytes.
pub const PATTERN_LENGTH_LIMIT: usize = 4096;

/// Largest automaton that one pattern may become (`nfa_size_limit` of regex-automata), in bytes.
pub const PATTERN_SIZE_LIMIT: usize = 1 << 20;
