//! A summary as text, for eyes.

use super::summary::{ClassRow, Summary};
use crate::units::ByteSize;
use std::fmt::{Display, Formatter, Result};

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(
            f,
            "Dump        {}{}",
            ByteSize(self.dump_bytes),
            if self.is_whole { "" } else { ", broken off" }
        )?;
        writeln!(f, "Objects     {}", self.objects)?;
        writeln!(f, "In memory   {} (references of 8 bytes, headers of 16)", ByteSize(self.bytes))?;
        writeln!(f, "Threads     {}", self.threads)?;
        let texts = &self.duplicate_texts;
        write!(f, "Duplicates  {} of text, {} copies", ByteSize(texts.bytes), texts.copies)?;
        match texts.sampled_one_in {
            1 => writeln!(f)?,
            rate => writeln!(f, " (estimated from one text in {rate})")?,
        }
        classes(f, "Classes by memory", &self.classes_by_bytes)?;
        classes(f, "Classes by objects", &self.classes_by_objects)?;
        writeln!(f, "\nLargest arrays\n\n{:>12} {:>14}  array", "bytes", "length")?;
        for row in &self.largest_arrays {
            writeln!(f, "{:>12} {:>14}  {}", row.bytes, row.length, row.array)?;
        }
        writeln!(
            f,
            "\nClass loaders\n\n{:>12} {:>14} {:>9} {:>8}  loader",
            "bytes", "objects", "classes", "loaders"
        )?;
        for row in &self.class_loaders {
            let (bytes, objects) = (row.bytes, row.objects);
            writeln!(f, "{bytes:>12} {objects:>14} {:>9} {:>8}  {}", row.classes, row.loaders, row.loader)?;
        }
        if !self.stacks.is_empty() {
            writeln!(f, "\nStacks, their innermost frames")?;
        }
        for stack in &self.stacks {
            writeln!(f)?;
            for frame in stack {
                writeln!(f, "    at {frame}")?;
            }
        }
        Ok(())
    }
}

fn classes(f: &mut Formatter<'_>, title: &str, rows: &[ClassRow]) -> Result {
    writeln!(f, "\n{title}\n\n{:>12} {:>14}  class", "bytes", "objects")?;
    for row in rows {
        writeln!(f, "{:>12} {:>14}  {}", row.bytes, row.objects, row.class)?;
    }
    Ok(())
}
