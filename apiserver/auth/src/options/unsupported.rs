//! Upstream's flags that this server does not have: the parser takes them, and the start fails with their name.

use std::marker::PhantomData;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// A list of such flags, without dashes.
pub trait Flags {
    const NAMES: &'static [&'static str];
}

/// Those of the list that were given.
#[derive(Debug)]
pub struct Unsupported<L> {
    pub given: Vec<&'static str>,
    list: PhantomData<L>,
}

impl<L> Clone for Unsupported<L> {
    fn clone(&self) -> Self {
        Unsupported { given: self.given.clone(), list: PhantomData }
    }
}

impl<L> Default for Unsupported<L> {
    fn default() -> Self {
        Unsupported { given: Vec::new(), list: PhantomData }
    }
}

impl<L: Flags> Args for Unsupported<L> {
    fn augment_args(command: Command) -> Command {
        L::NAMES.iter().fold(command, |command, name| {
            command.arg(Arg::new(*name).long(*name).num_args(0..=1).action(ArgAction::Append).hide(true))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<L: Flags> FromArgMatches for Unsupported<L> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = L::NAMES.iter().copied().filter(|name| matches.contains_id(name)).collect();
        Ok(Unsupported { given, list: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
