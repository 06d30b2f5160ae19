//! The RIB against an oracle that computes everything from scratch, and case by case.

#[cfg(test)]
mod add_path;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod dampening;
#[cfg(test)]
mod default_route;
#[cfg(test)]
mod listener;
#[cfg(test)]
mod options;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod permutations;
#[cfg(test)]
mod refresh;
